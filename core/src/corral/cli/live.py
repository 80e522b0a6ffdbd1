"""Shows one task while it runs: what it prints, as it comes."""

from collections.abc import Callable
from contextlib import suppress

from corral.api import AgentTask, Frame, Output, Progress
from corral.cli.execution import CANCELLING
from corral.cli.exits import ReaderGoneError, UnwritableError
from corral.cli.terminal import Stream, Terminal
from corral.cli.visible import VisibleStream, one_line

#: Called with the execution's name, the path and the content of a file that came back.
OnFile = Callable[[str, str, bytes], None]

#: Back to the line's beginning and erase it (ECMA-48: CR, EL).
_ERASE = "\r\x1b[K"


class LiveOutput:
    """The observer of a single task.

    In a pipe the tool's bytes pass as they are; on a terminal its control characters are shown, not obeyed.
    """

    def __init__(self, terminal: Terminal, on_file: OnFile, *, names_steps: bool) -> None:
        """Prepare.

        Args:
            terminal: where to write.
            on_file: takes the files that come back.
            names_steps: tell, on a terminal, which step of a chain the output is from.
        """
        self._terminal = terminal
        self._on_file = on_file
        self._names_steps = names_steps and terminal.err.is_terminal
        self._shown: dict[tuple[str, str], VisibleStream] = {}
        self._speaker: str | None = None
        self._has_status_line = False
        #: Streams whose last line has not ended.
        self._open: set[Stream] = set()

    def started(self, index: int) -> None:
        """Say nothing: what follows shows it."""

    def frame(self, index: int, execution: str, frame: Frame) -> None:  # noqa: ARG002 - there is one task
        """Write what the tool printed; show its progress on a terminal."""
        match frame:
            case Output():
                self._erase_status()
                self._introduce(execution)
                self._write(execution, frame)
            case Progress():
                self._show_status(frame)
            case _:
                pass

    def file(self, index: int, execution: str, path: str, data: bytes) -> None:  # noqa: ARG002
        """Hand a file on."""
        self._on_file(execution, path, data)

    def finished(self, index: int, task: AgentTask) -> None:  # noqa: ARG002
        """Write what was held back: a cut character at the very end."""
        self._erase_status()
        for (_execution, name), stream in self._shown.items():
            self._put(self._stream(name), stream.end())

    def interrupted(self) -> None:
        """Say what happens, to a person."""
        with suppress(ReaderGoneError, UnwritableError):
            self._erase_status()
            if self._terminal.err.is_terminal:
                self._terminal.err.line()  # the terminal has shown ^C
            self._terminal.note(CANCELLING)

    def abandon(self) -> None:
        """Leave everything as it is."""

    def end_line(self, stream: Stream) -> None:
        """Begin a new line, if this stream, or the terminal that it shares, stands in the middle of one."""
        for other in list(self._open):
            if other is stream or (other.is_terminal and stream.is_terminal):
                other.line()
                self._open.discard(other)

    def _stream(self, name: str) -> Stream:
        return self._terminal.err if name == "stderr" else self._terminal.out

    def _write(self, execution: str, frame: Output) -> None:
        stream = self._stream(frame.stream)
        if stream.is_terminal:
            key = (execution, frame.stream)
            if key not in self._shown:
                self._shown[key] = VisibleStream()
            self._put(stream, self._shown[key].feed(frame.raw))
        elif frame.raw:
            stream.write_bytes(frame.raw)
            self._mark(stream, ended=frame.raw.endswith(b"\n"))

    def _put(self, stream: Stream, text: str) -> None:
        if text:
            stream.write(text)
            self._mark(stream, ended=text.endswith("\n"))

    def _mark(self, stream: Stream, *, ended: bool) -> None:
        if ended:
            self._open.discard(stream)
        else:
            self._open.add(stream)

    def _introduce(self, execution: str) -> None:
        if self._names_steps and execution != self._speaker:
            self._speaker = execution
            err = self._terminal.err
            self.end_line(err)
            err.line(err.paint(f"── {execution}", "dim"))

    def _show_status(self, progress: Progress) -> None:
        err = self._terminal.err
        if not err.is_coloured:  # a terminal that cannot, or a person who does not want it
            return
        share = "" if progress.fraction is None else f"{progress.fraction:4.0%} "
        self._erase_status()
        self.end_line(err)
        err.write(err.paint(one_line(f"{share}{progress.message}", err.width - 1), "dim"))
        self._has_status_line = True

    def _erase_status(self) -> None:
        if self._has_status_line:
            self._has_status_line = False
            self._terminal.err.write(_ERASE)
