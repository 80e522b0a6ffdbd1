"""The tool's standard output and error: pipes in, frames out, cut at the limit, paced where a tool dribbles."""

import fcntl
import os
import struct
import time

from corral_runner.frames import TextChunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.frames import FrameBuffer

_READ_BYTES = 65536
#: More than a pipe can hold (pipe(7): pipe-max-size, 1 MiB), in case a process is left that writes on.
_MOST_READS = 64
#: A frame costs its text and some 150 bytes more, here and with every reader. From this size on that is small.
_SMALL_BYTES = 4096
_FIONREAD = 0x541B  # asm-generic/ioctls.h
#: Small pieces are gathered for a thousandth of the time that has passed, but never for longer than people like
#: to wait: a tool that prints single characters for a day makes some 300,000 frames, not billions.
_GATHER_LEAST_SECONDS, _GATHER_MOST_SECONDS, _GATHER_PART = 0.005, 0.25, 1 / 1000


class Output:
    """How much the streams of one execution have printed together, and may."""

    __slots__ = ("kept_bytes", "limit_bytes", "printed_bytes", "truncated")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.kept_bytes = self.printed_bytes = 0
        self.truncated = False

    def take(self, data: bytes) -> bytes:
        """Count what was printed; returns what of it is kept."""
        self.printed_bytes += len(data)
        room = self.limit_bytes - self.kept_bytes
        if len(data) > room:
            self.truncated = True
            data = data[:room]
        self.kept_bytes += len(data)
        return data


class Stream:
    """The read end of one pipe."""

    __slots__ = ("_chunks", "_frames", "_last", "_name", "_output", "_started", "descriptor", "due")

    def __init__(self, descriptor: int, name: str, output: Output, frames: "FrameBuffer") -> None:
        self.descriptor = descriptor
        self._name = name
        self._output = output
        self._frames = frames
        self._chunks = TextChunks()
        self._started = time.monotonic()
        self._last = 0.0
        #: When to look again, while small pieces are gathered; None while every piece is taken as it comes.
        self.due: float | None = None

    def hold(self, now: float) -> bool:
        """Whether what is there should wait for more. Asked when something has arrived."""
        wait = min(max((now - self._started) * _GATHER_PART, _GATHER_LEAST_SECONDS), _GATHER_MOST_SECONDS)
        # Nothing there means that the end of the stream is.
        if now - self._last >= wait or not 0 < self._waiting_bytes() < _SMALL_BYTES:
            self.due = None
            return False
        self.due = self._last + wait
        return True

    def read(self) -> "int | None":
        """Take one chunk; returns how many bytes came, 0 at the end of the stream, None where nothing is there."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return None
        if data:
            self._last = time.monotonic()
            self._append(self._chunks.feed(self._output.take(data)))
        return len(data)

    def finish(self) -> None:
        """Take the rest, after every process that could write is dead, and close."""
        for _ in range(_MOST_READS):
            if not self.read():
                break
        self._append(self._chunks.flush())
        os.close(self.descriptor)

    def _append(self, piece: "dict[str, str]") -> None:
        if piece:
            self._frames.append(self._name, **piece)

    def _waiting_bytes(self) -> int:
        found = fcntl.ioctl(self.descriptor, _FIONREAD, bytes(4))
        return int(struct.unpack("i", found)[0])
