"""The real ``corral`` command, in a pipe and on a terminal."""

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from eventually import PATIENCE_SECONDS, eventually

CORRAL = str(Path(sys.executable).with_name("corral"))

#: What a terminal would obey (ECMA-48): here only that of our own, since that of tools must never arrive.
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    status: int
    out: str
    err: str


class Corral:
    """Runs ``corral`` in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(
        self, *arguments: str, stdin: str | bytes = b"", env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run it in a pipe to its end."""
        ended = subprocess.run(
            [CORRAL, *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            cwd=self.directory,
            env=self.environment(env),
            timeout=60,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def raw(self, *arguments: str) -> bytes:
        """Run it in a pipe and return the bytes of its standard output."""
        return subprocess.run(
            [CORRAL, *arguments], capture_output=True, cwd=self.directory, timeout=60, check=False
        ).stdout

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it in a pipe."""
        return subprocess.Popen(
            [CORRAL, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment(None),
            text=True,
            start_new_session=True,
        )

    def environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
        return {**kept, "TERM": "xterm-256color", **(more or {})}

    def write(self, name: str, text: str) -> str:
        """Put a file into the directory and return its name."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name


@dataclass
class Terminal:
    """A command on a pseudo terminal, and what it has shown there."""

    process: "subprocess.Popen[bytes]"
    master: int
    shown: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """What was written, line ends as the program wrote them."""
        return self.shown.decode(errors="replace").replace("\r\n", "\n")

    @property
    def plain(self) -> str:
        """The same without the escape sequences."""
        return _SEQUENCE.sub("", self.text)

    def read(self) -> str:
        """Take in what is there, without waiting for more than a moment."""
        ready, _, _ = select.select([self.master], [], [], 0.01)
        if ready:
            with suppress(OSError):  # EIO: the other end is closed
                self.shown += os.read(self.master, 65536)
        return self.text

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, text: str) -> None:
        eventually(self.read, lambda shown: text in shown)

    def end(self) -> int:
        """Wait for the end and return the exit status."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        status = self.process.wait(timeout=1)
        before = None
        while before != len(self.shown):
            before = len(self.shown)
            self.read()
        return status


def start_on_terminal(corral: Corral, *arguments: str, env: Mapping[str, str] | None = None) -> Terminal:
    """Start ``corral`` with a terminal of 100 columns as its controlling one."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [CORRAL, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=corral.directory,
        env=corral.environment(env),
        start_new_session=True,
        # So that Ctrl-C reaches it as from a keyboard.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads use it
    )
    os.close(slave)
    return Terminal(process, master)


def is_running(mark: str) -> bool:
    """Whether any process has this on its command line, ``corral`` itself apart."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if mark.encode() in words:  # sleep's own argument, not the text of a manifest or a shell
                return True
    return False
