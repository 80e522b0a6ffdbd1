"""What a single task shows while it runs."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from corral.api import AgentTask, AgentTaskSpec, ObjectMeta, Output, Progress
from corral.cli.exits import ReaderGoneError, UnwritableError
from corral.cli.live import LiveOutput
from corral.cli.terminal import Stream, Terminal

TASK = AgentTask(metadata=ObjectMeta(name="task"), spec=AgentTaskSpec(tool="python"))


class Bytes(io.TextIOWrapper):
    """A stream that keeps what was written, and may say that it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def output(data: str | bytes, stream: str = "stdout") -> Output:
    return Output(0, 0.0, stream, data)


class Screen:
    """A live output with its two streams."""

    def __init__(self, *, out: bool, err: bool, colour: bool = False, steps: bool = False) -> None:
        self.out, self.err = Bytes(terminal=out), Bytes(terminal=err)
        terminal = Terminal(
            Stream(self.out, colour=colour, width=40), Stream(self.err, colour=colour, width=40)
        )
        self.terminal = terminal
        self.live = LiveOutput(terminal, lambda *_: None, names_steps=steps)

    def show(self, *frames: Output | Progress, execution: str = "main") -> None:
        for frame in frames:
            self.live.frame(0, execution, frame)


def test_bytes_pass_a_pipe_as_they_are() -> None:
    screen = Screen(out=False, err=False)

    screen.show(output("\x1b[31mred\r\n"), output(b"\xff\xfe\x00"), output("problem\x07", "stderr"))
    screen.live.finished(0, TASK)

    assert screen.out.written() == b"\x1b[31mred\r\n\xff\xfe\x00"
    assert screen.err.written() == b"problem\x07"


def test_a_terminal_gets_no_control_characters() -> None:
    screen = Screen(out=True, err=True)

    screen.show(output("\x1b[31mred"), output("\x1b]0;title\x07\n", "stderr"))

    assert screen.out.written() == "␛[31mred".encode()
    assert screen.err.written() == "␛]0;title␇\n".encode()


def test_a_character_cut_between_two_frames_is_whole_on_a_terminal() -> None:
    screen = Screen(out=True, err=True)
    first, second = "ä".encode()[:1], "ä".encode()[1:]

    screen.show(output(first), output(second), output(first))
    screen.live.finished(0, TASK)

    assert screen.out.written().decode() == "ä\ufffd"


def test_each_stream_is_judged_by_itself() -> None:
    screen = Screen(out=False, err=True)

    screen.show(output("\x1b[1m"), output("\x1b[1m", "stderr"))

    assert screen.out.written() == b"\x1b[1m"
    assert screen.err.written() == "␛[1m".encode()


def test_steps_of_a_chain_are_named_on_a_terminal_only() -> None:
    screen = Screen(out=True, err=True, steps=True)
    screen.show(output("one"), execution="a")
    screen.show(output("two\n"), execution="b")
    assert screen.err.written().decode() == "── a\n── b\n"
    assert screen.out.written() == b"one\ntwo\n"

    piped = Screen(out=False, err=False, steps=True)
    piped.show(output("one"), execution="a")
    assert piped.err.written() == b""


def test_progress_is_one_line_that_output_replaces() -> None:
    screen = Screen(out=True, err=True, colour=True)

    screen.show(Progress(0, 0.0, 0.5, "half\x1b"), output("done\n"))

    assert screen.err.written().decode() == "\x1b[2m50% half␛\x1b[0m\r\x1b[K"
    assert screen.out.written() == b"done\n"


def test_progress_is_no_concern_of_a_pipe() -> None:
    screen = Screen(out=False, err=False)

    screen.show(Progress(0, 0.0, None, "working"))

    assert screen.err.written() == b""


def test_a_line_is_ended_where_something_follows() -> None:
    screen = Screen(out=False, err=False)
    screen.show(output("no newline"))

    screen.live.end_line(screen.terminal.err)
    assert screen.out.written() == b"no newline"

    screen.live.end_line(screen.terminal.out)
    assert screen.out.written() == b"no newline\n"


def test_a_reader_that_went_away_is_told() -> None:
    read, write = os.pipe()
    os.close(read)
    with contextlib.suppress(BrokenPipeError), open(write, "w", encoding="utf-8") as closed:
        stream = Stream(closed)
        with pytest.raises(ReaderGoneError):
            stream.write("x")
        with pytest.raises(ReaderGoneError):
            stream.write_bytes(b"x")


def test_a_full_disk_is_told() -> None:
    with (
        contextlib.suppress(OSError),  # what is buffered is tried again at the end
        Path("/dev/full").open("w", encoding="utf-8") as full,
        pytest.raises(UnwritableError, match="/dev/full: No space left on device"),
    ):
        Stream(full).write("x")
