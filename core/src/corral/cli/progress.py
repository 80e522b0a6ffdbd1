"""Shows many tasks while they run: a bar on a terminal, a line for each in a pipe."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from corral.api import AgentTask, Frame, Phase
from corral.cli.execution import CANCELLING
from corral.cli.summary import duration_of, phase_style
from corral.cli.terminal import Terminal
from corral.cli.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Called with the task's index, the execution's name, the path and the content of a file that came back.
OnFile = Callable[[int, str, str, bytes], None]

#: Show the cursor (DECTCEM), which the bar hides.
_CURSOR = b"\x1b[?25h\n"


class Quiet:
    """The observer of tasks whose results alone matter."""

    def __init__(self, terminal: Terminal, on_file: OnFile) -> None:
        self._terminal = terminal
        self._on_file = on_file

    def started(self, index: int) -> None:
        """Nothing to show."""

    def frame(self, index: int, execution: str, frame: Frame) -> None:
        """Nothing to show."""

    def file(self, index: int, execution: str, path: str, data: bytes) -> None:
        """Hand a file on."""
        self._on_file(index, execution, path, data)

    def finished(self, index: int, task: AgentTask) -> None:
        """Nothing to show."""

    def interrupted(self) -> None:
        """Say what happens."""
        self._terminal.note(CANCELLING)

    def abandon(self) -> None:
        """Nothing to clean up."""


class Lines(Quiet):
    """A line on standard error for each task that ended."""

    def __init__(self, terminal: Terminal, tasks: Sequence[AgentTask], on_file: OnFile) -> None:
        super().__init__(terminal, on_file)
        self._count = len(tasks)
        self._ended = 0

    def finished(self, index: int, task: AgentTask) -> None:  # noqa: ARG002 - the order of ending counts
        """Write its line."""
        self._ended += 1
        took = duration_of(task)
        self._terminal.err.line(
            f"[{self._ended}/{self._count}] {visible(str(task.metadata.name))}: {task.reason}"
            + (f" after {took}" if took else "")
        )


class Bar(Quiet):
    """A progress bar on standard error, and above it a line for each task that did not succeed."""

    def __init__(self, terminal: Terminal, tasks: Sequence[AgentTask], on_file: OnFile) -> None:
        super().__init__(terminal, on_file)
        self._tasks = tasks
        self._running: dict[int, str] = {}
        self._failed = 0
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def started(self, index: int) -> None:
        """Show it among the running ones."""
        self._running[index] = visible(str(self._tasks[index].metadata.name))
        self._update(0)

    def finished(self, index: int, task: AgentTask) -> None:
        """Count it."""
        self._running.pop(index, None)
        if not task.succeeded:
            self._failed += 1
            self._say(task)
        self._update(1)

    def interrupted(self) -> None:
        """Say what happens."""
        if self._progress is not None:
            self._progress.console.print(CANCELLING, style="yellow")

    def abandon(self) -> None:
        """Give the terminal its cursor back."""
        if self._progress is not None:
            os.write(2, _CURSOR)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _update(self, advance: int) -> None:
        # rich costs 100 ms, so the first tasks are on their way before it is imported.
        progress, bar = self._shown()
        names = ", ".join(self._running.values())
        failed = f"{self._failed} failed · " if self._failed else ""
        progress.update(bar, advance=advance, running=f"{failed}{names}")

    def _say(self, task: AgentTask) -> None:
        from rich.text import Text

        progress, _bar = self._shown()
        status = task.status
        assert status is not None
        line = Text(f"{visible(str(task.metadata.name))}: ")
        line.append(str(status.reason), style=" ".join(phase_style(status.phase or Phase.FAILED)))
        progress.console.print(line)

    def _shown(self) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        if self._progress is None or self._bar is None:
            err = self._terminal.err
            self._progress = Progress(
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                # Names are a stranger's, so not markup.
                TextColumn(
                    "{task.fields[running]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
                ),
                console=Console(
                    file=err.text,
                    width=err.width,
                    no_color=not err.is_coloured,
                    highlight=False,
                    markup=False,
                ),
                transient=True,
            )
            self._bar = self._progress.add_task("", total=len(self._tasks), running="")
            self._progress.start()
        return self._progress, self._bar
