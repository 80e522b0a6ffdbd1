"""``corral tasks``: what a person sees of tasks at a gateway."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any

from corral.api import AgentTask, Phase
from corral.cli.documents import document, kubernetes_list
from corral.cli.exits import BadInputError
from corral.cli.formats import Format
from corral.cli.summary import (
    duration_of,
    explain,
    is_printed,
    phase_style,
    print_explanation,
    print_steps,
    result_text,
)
from corral.cli.tables import Cell, Column, print_table
from corral.cli.terminal import Stream, Terminal
from corral.cli.visible import visible

if TYPE_CHECKING:
    from corral.client.gateway import GatewayClient

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: As far back as a name is looked for.
_MOST_LOOKED_AT = 1000
#: Of an id, on a terminal: enough to tell a caller's tasks apart, and commands take it.
_SHORT_ID = 8
_WATCH_SECONDS = 2.0
#: Cursor to the upper left corner, and erase from there (ECMA-48: CUP, ED).
_HOME = "\x1b[H\x1b[J"
_LABEL_WIDTH = 9


def list_tasks(client: "GatewayClient", wanted: Mapping[str, Any], terminal: Terminal, style: Format) -> None:
    """Write a line for each task that fits."""
    tasks = list(client.tasks(**wanted))
    if style is not Format.TABLE:
        terminal.out.write(document(kubernetes_list([task.to_wire() for task in tasks]), style))
    elif tasks:
        _print_list(terminal.out, tasks, datetime.now(UTC))
    else:
        terminal.note(
            "no task fits" if any(wanted[name] for name in wanted if name != "most") else "no tasks yet"
        )


def watch_tasks(
    client: "GatewayClient", wanted: Mapping[str, Any], terminal: Terminal, style: Format
) -> None:
    """Write the list again and again, on a terminal, until the person has seen enough.

    Raises:
        BadInputError: nobody watches.
    """
    if not terminal.out.is_terminal or style is not Format.TABLE:
        raise BadInputError(
            "--watch is for a terminal", "corral logs -f TASK, or corral tasks get TASK --wait"
        )
    while True:
        tasks = list(client.tasks(**wanted))
        drawn = Stream(StringIO(), colour=terminal.out.is_coloured, width=terminal.out.width)
        drawn.is_terminal = True
        _print_list(drawn, tasks, datetime.now(UTC))
        terminal.out.write(_HOME + drawn.text.getvalue())  # type: ignore[attr-defined]  # a StringIO
        time.sleep(_WATCH_SECONDS)


def find_task(client: "GatewayClient", reference: str) -> AgentTask:
    """Return the task that a name, an id or its beginning means.

    Raises:
        BadInputError: several are called so.
        NotFoundError: none is.
    """
    if _UUID.fullmatch(reference):
        return client.get(reference)
    looked_at = islice(client.tasks(), _MOST_LOOKED_AT)
    found = [
        task
        for task in looked_at
        if task.metadata.name == reference or (task.metadata.uid or "").startswith(reference)
    ]
    if len(found) > 1:
        ids = ", ".join(task.metadata.uid or "" for task in found[:5])
        raise BadInputError(f"{len(found)} tasks are called {reference!r}: {ids}", "name one by its id")
    return client.get(found[0].metadata.uid or "" if found else reference)


def show_task(task: AgentTask, terminal: Terminal, style: Format) -> None:
    """Write all that a person wants to know of a task."""
    out = terminal.out
    if style is not Format.TABLE:
        out.write(document(task.to_wire(), style))
        return
    phase = _phase(task)
    out.line(
        f"{out.paint(visible(str(task.metadata.name)), 'bold')}  {out.paint(phase, *phase_style(phase))}"
    )
    for label, text in _facts(task):
        out.line(f"  {label + ':':<{_LABEL_WIDTH}} {out.wrap(visible(text), _LABEL_WIDTH + 3)}")
    if task.spec.steps and task.executions:
        out.line()
        print_steps(out, task)
    last = task.executions[-1] if task.executions else None
    if last is not None and last.output is not None:
        _section(out, "Output", last.output.stdout)
        _section(out, "Errors", last.output.stderr)
    if last is not None and last.succeeded and last.result is not None and not is_printed(last):
        _section(out, "Result", result_text(last.result))
    if task.reason is not None and not task.succeeded and phase is not Phase.CANCELLED:
        out.line()
        print_explanation(out, list(explain(task, by_name=False)))


def cancel_tasks(client: "GatewayClient", references: Sequence[str], terminal: Terminal) -> None:
    """End tasks, all asked before any is waited for."""
    tasks = [find_task(client, reference) for reference in references]
    for task in tasks:
        client.cancel(task.metadata.uid or "")
    for task in tasks:
        ended = client.wait(task.metadata.uid or "")
        name, reason = visible(str(ended.metadata.name)), str(ended.reason)
        had_ended = "" if task.reason is None else " before that"
        terminal.out.line(f"{name}: {terminal.out.paint(reason, *phase_style(_phase(ended)))}{had_ended}")


def _print_list(stream: Stream, tasks: Sequence[AgentTask], now: datetime) -> None:
    columns = [
        Column("NAME"),
        Column("TOOL"),
        Column("PHASE"),
        Column("REASON"),
        Column("AGE"),
        Column("TOOK"),
    ]
    rows = []
    for task in tasks:
        uid = task.metadata.uid or ""
        phase = _phase(task)
        rows.append(
            (
                Cell(str(task.metadata.name), ("bold",)),
                _what(task),
                Cell(phase, phase_style(phase)),
                str(task.reason or ""),
                _age(task, now),
                duration_of(task),
                Cell(uid[:_SHORT_ID] if stream.is_terminal else uid, ("dim",)),
            )
        )
    print_table(stream, [*columns, Column("ID", flexible=True)], rows)


def _facts(task: AgentTask) -> Iterator[tuple[str, str]]:
    status = task.status
    yield "id", task.metadata.uid or ""
    yield "runs", _what(task)
    if status is not None and status.reason is not None:
        yield "reason", status.reason
    if status is not None and status.queue_position is not None and status.reason is None:
        yield "waits", f"as number {status.queue_position}"
    for label, moment in (
        ("taken in", task.metadata.creation_timestamp),
        ("started", status.start_time if status is not None else None),
        ("ended", status.completion_time if status is not None else None),
    ):
        if moment is not None:
            yield label, moment
    if took := duration_of(task):
        yield "took", took
    sandbox = status.sandbox if status is not None else None
    if sandbox is not None and (place := sandbox.pod_name or sandbox.backend):
        yield "where", f"{place}{f' on {sandbox.node}' if sandbox.node else ''}"


def _section(out: Stream, title: str, text: str) -> None:
    if text:
        out.line()
        out.line(out.paint(title, "bold"))
        shown = visible(text)
        out.write(shown if shown.endswith("\n") else f"{shown}\n")


def _what(task: AgentTask) -> str:
    return task.spec.tool or (f"{len(task.spec.steps)} steps" if task.spec.steps else "agent")


def _phase(task: AgentTask) -> Phase:
    return (task.status.phase if task.status is not None else None) or Phase.PENDING


def _age(task: AgentTask, now: datetime) -> str:
    """Return how long ago a task was taken in, the way ``kubectl get`` does."""
    if task.metadata.creation_timestamp is None:
        return ""
    seconds = max(0, int((now - datetime.fromisoformat(task.metadata.creation_timestamp)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
