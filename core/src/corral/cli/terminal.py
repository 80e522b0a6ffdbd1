"""The two standard streams: whether a person reads them, and how to write to them."""

import io
import os
import shutil
import sys
from contextlib import suppress
from typing import TextIO

from corral.cli.exits import ReaderGoneError, UnwritableError
from corral.cli.visible import visible

#: The width of tables that nobody sees on a terminal.
_PIPE_WIDTH = 100
#: Text is not broken into less than that, however narrow the terminal.
_NARROWEST = 30
#: Select Graphic Rendition (ECMA-48, 8.3.117), the few that are used here.
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Stream:
    """Standard output or standard error."""

    def __init__(self, stream: TextIO, *, colour: bool | None = None, width: int | None = None) -> None:
        """Look at the stream once.

        Args:
            stream: where to write.
            colour: whether to colour; by default on a terminal that can, and not with ``NO_COLOR``
                (no-color.org).
            width: in characters; by default the terminal's.
        """
        self.is_terminal = stream.isatty()
        if colour is None:
            able = os.environ.get("TERM", "") not in {"", "dumb"}
            colour = self.is_terminal and able and not os.environ.get("NO_COLOR")
        self.is_coloured = colour
        self.width = width or (shutil.get_terminal_size().columns if self.is_terminal else _PIPE_WIDTH)
        self.text = stream
        if isinstance(stream, io.TextIOWrapper):
            # A name or a result may hold what the locale cannot write, and a lone surrogate nobody can.
            # A full disk fails the flush that goes before; it is told where output is written.
            with suppress(OSError):
                stream.reconfigure(errors="backslashreplace")

    def paint(self, text: str, *styles: str) -> str:
        """Return the text in colour, if this stream has colours."""
        if not self.is_coloured or not text or not styles:
            return text
        return f"\x1b[{';'.join(_STYLES[style] for style in styles)}m{text}\x1b[0m"

    def wrap(self, text: str, indent: int = 0) -> str:
        """Break a text at the terminal's width, its later lines indented; in a pipe it stays one line."""
        if not self.is_terminal:
            return text
        from textwrap import wrap

        width = max(self.width - indent, _NARROWEST)
        return f"\n{' ' * indent}".join(wrap(text, width, break_long_words=False, break_on_hyphens=False))

    def line(self, text: str = "") -> None:
        """Write a line of ours. What strangers wrote in it has gone through ``visible``.

        Raises:
            ReaderGoneError: nobody reads any more.
            UnwritableError: the system refused.
        """
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Write text and flush.

        Raises:
            ReaderGoneError: nobody reads any more.
            UnwritableError: the system refused.
        """
        try:
            self.text.write(text)
            self.text.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are and flush.

        Raises:
            ReaderGoneError: nobody reads any more.
            UnwritableError: the system refused.
        """
        try:
            self.text.flush()
            self.text.buffer.write(data)
            self.text.buffer.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return ReaderGoneError()
        return UnwritableError(f"{self.text.name.strip('<>')}: {error.strerror}")


class Terminal:
    """Both streams. Results go to ``out``, all talk about them to ``err``."""

    def __init__(self, out: Stream | None = None, err: Stream | None = None) -> None:
        self.out = out or Stream(sys.stdout)
        self.err = err or Stream(sys.stderr)

    def note(self, text: str) -> None:
        """Tell something that is neither a result nor an error."""
        self.err.line(f"{self.err.paint('note:', 'cyan')} {visible(text)}")

    def error(self, text: str) -> None:
        """Tell what is wrong."""
        self.err.line(f"{self.err.paint('error:', 'red', 'bold')} {visible(text)}")

    def remedy(self, text: str) -> None:
        """Tell what to do about it."""
        self.err.line(f"{self.err.paint('remedy:', 'green')} {visible(text)}")


def forget_streams() -> None:
    """Let nothing more be written: the interpreter would complain about a closed pipe when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
