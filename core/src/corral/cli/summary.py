"""What a person reads of tasks that ended: a table of many, a result, why it failed."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from corral.api import (
    REASON_DOCS,
    AgentTask,
    ExecutionStatus,
    LimitBreach,
    Phase,
    Reason,
    format_bytes,
    format_duration,
)
from corral.cli.tables import Cell, Column, Row, print_table
from corral.cli.terminal import Stream
from corral.cli.visible import visible

#: A result that fits here, and has nothing nested, is written on one line.
_SHORT_RESULT = 72
#: As much of a result as any terminal's line can show.
_EXCERPT = 400

_LIMIT = re.compile(r"limits\.(\w+)")
_STYLES: dict[Phase, tuple[str, ...]] = {
    Phase.SUCCEEDED: ("green",),
    Phase.FAILED: ("red",),
    Phase.CANCELLED: ("yellow",),
}


def phase_style(phase: Phase) -> tuple[str, ...]:
    """Return the styles of a phase; see ``Stream.paint``."""
    return _STYLES.get(phase, ())


def print_tasks(stream: Stream, tasks: Sequence[AgentTask]) -> None:
    """Write a line for each task."""
    columns = [Column("NAME"), Column("TOOL"), Column("PHASE"), Column("REASON"), Column("DURATION")]
    print_table(stream, [*columns, Column("RESULT", flexible=True)], [_task_row(task) for task in tasks])


def print_steps(stream: Stream, task: AgentTask) -> None:
    """Write a line for each step that a chain came to."""
    columns = [Column("STEP"), Column("TOOL"), Column("PHASE"), Column("REASON"), Column("DURATION")]
    order = {step.name: position for position, step in enumerate(task.spec.steps)}
    executions = sorted(task.executions, key=lambda execution: order.get(execution.name, 0))
    rows: list[Row] = [
        (
            execution.name,
            execution.tool,
            Cell(execution.phase, phase_style(execution.phase)),
            str(execution.reason or ""),
            _execution_duration(execution),
            _excerpt(execution, execution.message),
        )
        for execution in executions
    ]
    print_table(stream, [*columns, Column("RESULT", flexible=True)], rows)


def result_text(result: Any) -> str:
    """Write a result for people: a text as it is, anything else as JSON."""
    if isinstance(result, str):
        return result
    short = json.dumps(result, ensure_ascii=False)
    members = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    if len(short) <= _SHORT_RESULT and not any(isinstance(member, dict | list) for member in members):
        return short
    return json.dumps(result, ensure_ascii=False, indent=2)


def is_printed(execution: ExecutionStatus) -> bool:
    """Whether the result is what the tool printed, as with a command, so that a person has seen it."""
    output = execution.output.stdout.strip() if execution.output is not None else ""
    if not output:
        return False
    if isinstance(execution.result, str):
        return execution.result.strip() == output
    try:
        return bool(json.loads(output) == execution.result)
    except (ValueError, RecursionError):
        return False


def size_text(size_bytes: int) -> str:
    """Write a size for people, rounded."""
    amount, units = float(size_bytes), ["bytes", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if amount >= 100 or units[0] == "bytes" else f"{amount:.1f} {units[0]}"


def duration_of(task: AgentTask) -> str:
    """Return how long a task took, from the start of its first execution; empty if it never started."""
    status = task.status
    if status is None or status.start_time is None or status.completion_time is None:
        return ""
    return _seconds_text(_seconds(status.start_time, status.completion_time))


def explain(task: AgentTask, *, by_name: bool) -> Iterator[tuple[str, str]]:
    """Yield what a person should know of a task that did not succeed: pairs of a label and a text.

    Args:
        task: one that ended.
        by_name: it was started by ``corral run TOOL``, so that limits are options.
    """
    status = task.status
    if status is None or status.reason is None:
        return
    culprits = [execution for execution in task.executions if not execution.succeeded]
    for execution in culprits:
        where = f"step {execution.name}: " if task.spec.steps else ""
        yield from _explain_execution(execution, where)
    reason = status.reason
    if not culprits or (task.spec.steps and reason is not culprits[-1].reason):
        yield reason, status.message or REASON_DOCS[reason].summary
    if culprits and task.spec.steps and culprits[-1].reason is not None:
        reason = culprits[-1].reason
    yield "remedy", _remedy(reason, by_name=by_name)


def _explain_execution(execution: ExecutionStatus, where: str) -> Iterator[tuple[str, str]]:
    reason = execution.reason or Reason.SANDBOX_FAILED
    yield reason, where + (execution.message or REASON_DOCS[reason].summary)
    error = execution.error
    if error is not None and error.rule:
        yield "rule", error.rule
    if execution.limit is not None:
        yield "limit", _limit_text(execution.limit)
    for denial in execution.denials:
        times = f", {denial.count} times" if denial.count > 1 else ""
        yield "denied", " ".join(part for part in (denial.syscall, denial.detail) if part) + times
    if execution.output is not None and execution.output.truncated:
        yield "output", "cut at the limit; what came before it is kept"


def _remedy(reason: Reason, *, by_name: bool) -> str:
    text = REASON_DOCS[reason].remedy
    return _LIMIT.sub(r"--limit \1=…", text) if by_name else text


def _limit_text(limit: LimitBreach) -> str:
    if limit.unit == "bytes":
        value = format_bytes(int(limit.value))
    elif limit.unit == "seconds":
        value = format_duration(limit.value)
    else:
        value = f"{limit.value:g}"
    held = f", held by {limit.enforced_by}" if limit.enforced_by else ""
    return f"{limit.name}={value}{held}"


def _task_row(task: AgentTask) -> Row:
    status = task.status
    phase = status.phase if status is not None and status.phase is not None else Phase.PENDING
    tool = task.spec.tool or (f"{len(task.spec.steps)} steps" if task.spec.steps else "agent")
    last = task.executions[-1] if task.executions else None
    message = status.message if status is not None else None
    excerpt = message or "" if last is None or not task.succeeded else _excerpt(last, message)
    name = str(task.metadata.name)
    return (name, tool, Cell(phase, phase_style(phase)), str(task.reason or ""), duration_of(task), excerpt)


def _excerpt(execution: ExecutionStatus, message: str | None) -> str:
    if not execution.succeeded:
        return message or ""
    if execution.result is not None:
        result = execution.result
        return (result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))[:_EXCERPT]
    lines = execution.output.stdout.rstrip()[-_EXCERPT:].splitlines() if execution.output is not None else []
    return lines[-1] if lines else ""


def _execution_duration(execution: ExecutionStatus) -> str:
    if execution.usage is not None and execution.usage.wall_seconds is not None:
        return _seconds_text(execution.usage.wall_seconds)
    return ""


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _seconds_text(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.2f}s"
    return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"


def print_explanation(stream: Stream, lines: Sequence[tuple[str, str]]) -> None:
    """Write the pairs of ``explain``, the first one as the headline."""
    for position, (label, text) in enumerate(lines):
        shown = visible(text).replace("\n", "\n  ")
        if position == 0:
            stream.line(
                f"{stream.paint('failed:', 'red', 'bold')} {stream.paint(visible(label), 'bold')}: {shown}"
            )
        else:
            style = "green" if label == "remedy" else "dim"
            stream.line(f"  {stream.paint(f'{label}:', style)} {shown}")
