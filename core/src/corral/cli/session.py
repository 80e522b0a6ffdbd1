"""``corral run`` once it is known what to run: runs it, shows it, and says with which status to exit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.api import AgentTask, Reason
from corral.cli.clients import OpenClient
from corral.cli.documents import document, kubernetes_list
from corral.cli.execution import Observer, Outcome, run_tasks
from corral.cli.exits import Exit
from corral.cli.formats import Format
from corral.cli.live import LiveOutput
from corral.cli.outputs import OutputRefusedError, write_below
from corral.cli.progress import Bar, Lines, Quiet
from corral.cli.request import Request
from corral.cli.summary import (
    explain,
    is_printed,
    print_explanation,
    print_steps,
    print_tasks,
    result_text,
    size_text,
)
from corral.cli.terminal import Terminal
from corral.cli.visible import visible


@dataclass
class _Returned:
    """The files that come back: written below a directory, or only counted."""

    directory: Path | None
    tasks: Sequence[AgentTask]
    written: list[tuple[Path, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: list[tuple[str, int]] = field(default_factory=list)

    def take(self, index: int, execution: str, path: str, data: bytes) -> None:
        if self.directory is None:
            self.left.append((path, len(data)))
            return
        # Several tasks, and the steps of a chain, may each have a file of this name.
        task = self.tasks[index]
        below = self.directory
        if len(self.tasks) > 1:
            below /= str(task.metadata.name)
        if task.spec.steps:
            below /= execution
        try:
            self.written.append((write_below(below, path, data), len(data)))
        except OutputRefusedError as error:
            self.refused.append(str(error))

    def tell(self, terminal: Terminal) -> None:
        for place, size in self.written:
            terminal.note(f"wrote {place} ({size_text(size)})")
        if self.left:
            files = ", ".join(f"{path} ({size_text(size)})" for path, size in self.left)
            terminal.note(f"came back: {files}; --output-dir DIR writes it there")
        for problem in self.refused:
            terminal.error(f"a file that came back was not written: {problem}")


def run_request(
    request: Request,
    terminal: Terminal,
    open_client: OpenClient,
    *,
    style: Format,
    parallel: int,
    output_dir: str | None,
) -> int:
    """Run what was asked for and show it.

    Returns:
        The exit status.

    Raises:
        IsolationUnavailableError: this machine cannot isolate, so nothing ran.
        ReaderGoneError: nobody reads the output any more.
    """
    for note in request.notes:
        terminal.note(note)
    returned = _Returned(None if output_dir is None else Path(output_dir), request.tasks)
    observer = _observer(request, terminal, returned, style)
    try:
        outcome = run_tasks(request.tasks, open_client, observer, parallel)
    finally:
        if isinstance(observer, Bar):
            observer.close()
    if style is not Format.TABLE:
        wire = [task.to_wire() for task in outcome.tasks]
        terminal.out.write(document(wire[0] if len(wire) == 1 else kubernetes_list(wire), style))
    elif isinstance(observer, LiveOutput):
        _show_one(outcome.tasks[0], observer, terminal, by_name=request.by_name)
    else:
        _show_many(outcome.tasks, terminal)
    if style is Format.TABLE or returned.directory is not None:
        returned.tell(terminal)
    return _status(outcome, returned)


def _observer(request: Request, terminal: Terminal, returned: _Returned, style: Format) -> Observer:
    if len(request.tasks) == 1:
        if style is not Format.TABLE:
            return Quiet(terminal, returned.take)
        return LiveOutput(
            terminal,
            lambda execution, path, data: returned.take(0, execution, path, data),
            names_steps=bool(request.tasks[0].spec.steps),
        )
    if terminal.err.is_terminal:
        return Bar(terminal, request.tasks, returned.take)
    return (
        Lines(terminal, request.tasks, returned.take)
        if style is Format.TABLE
        else Quiet(terminal, returned.take)
    )


def _show_one(task: AgentTask, live: LiveOutput, terminal: Terminal, *, by_name: bool) -> None:
    last = task.executions[-1] if task.executions else None
    if last is not None and task.succeeded and last.result is not None and not is_printed(last):
        live.end_line(terminal.out)
        text = result_text(last.result)
        shown = visible(text) if terminal.out.is_terminal else text
        terminal.out.write(shown if shown.endswith("\n") else f"{shown}\n")
    if task.spec.steps:
        live.end_line(terminal.err)
        print_steps(terminal.err, task)
    if not task.succeeded:
        live.end_line(terminal.err)
        if task.reason is Reason.CANCELLED:
            message = task.status.message if task.status is not None else None
            terminal.err.line(
                f"{terminal.err.paint('cancelled:', 'yellow', 'bold')} {visible(message or '')}"
            )
        else:
            print_explanation(terminal.err, list(explain(task, by_name=by_name)))
    if terminal.out.is_terminal:
        live.end_line(terminal.out)  # for the shell's prompt


def _show_many(tasks: Sequence[AgentTask], terminal: Terminal) -> None:
    print_tasks(terminal.out, tasks)
    for task in tasks:
        if not task.succeeded and task.reason is not Reason.CANCELLED:
            (label, text), *rest = explain(task, by_name=False)
            print_explanation(terminal.err, [(f"{task.metadata.name}: {label}", text), *rest])


def _status(outcome: Outcome, returned: _Returned) -> int:
    if outcome.interruption.signal is not None:
        return Exit.after_signal(outcome.interruption.signal)
    if returned.refused or not all(task.succeeded for task in outcome.tasks):
        return Exit.FAILED
    return Exit.SUCCEEDED
