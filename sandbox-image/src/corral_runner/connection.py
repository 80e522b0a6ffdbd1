"""One peer of a listening or adopted runner: what it may do, what it has sent, what it gets next."""

import fcntl
import struct
from _collections import deque  # type: ignore[import-not-found]  # `collections` costs a cold start 2 ms

from corral_runner.jsonlines import MAX_LINE_BYTES, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral_runner.standard_streams import StandardStreams

_RECEIVE_BYTES = 262144
#: Sent at most this much to one reader before the loop looks at the others.
_BURST_LINES = 64
#: Answers that a peer has not read yet; a peer that asks on and does not read is not listened to meanwhile.
_UNREAD_BYTES = 65536
_TIOCOUTQ = 0x5411  # asm-generic/ioctls.h; tcp(7), unix(7)


def _same(events: int) -> int:
    return events


class LineTooLong(ValueError):  # noqa: N818 - what the peer sent
    """More than a line's length has come without an end."""


class Connection:
    """A stream socket that never blocks."""

    __slots__ = (
        "_lines",
        "_outgoing",
        "_pieces",
        "_rest",
        "cursor",
        "ended",
        "may_read",
        "may_start",
        "socket",
        "wait_for",
    )

    def __init__(
        self, socket: "_socket.socket | StandardStreams", *, may_start: bool, may_read: bool
    ) -> None:
        socket.setblocking(False)
        self.socket = socket
        #: From the events of poll that are waited for to those that its descriptor shows them by.
        self.wait_for: Callable[[int], int] = getattr(socket, "wait_for", _same)
        self.may_start = may_start
        self.may_read = may_read
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._outgoing = b""
        #: Answers that are made only as fast as the peer reads them.
        self._pieces: Iterator[bytes] | None = None
        #: Sequence number of the next frame to send, None until the peer follows.
        self.cursor: int | None = None
        #: Nothing more will come.
        self.ended = False

    @property
    def listens(self) -> bool:
        """Whether the peer has read enough of what it asked for to be asked for more."""
        return len(self._outgoing) < _UNREAD_BYTES and self._pieces is None

    @property
    def has_request(self) -> bool:
        return bool(self._lines) and self.listens

    def receive(self) -> None:
        """Take what has come."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(lines)

    def next_line(self) -> "bytes | None":
        """Take one request off, None while there is none or the peer must read first.

        Raises:
            LineTooLong: the peer does not keep to the protocol.
        """
        if not self.listens:
            return None
        line = self._lines.popleft() if self._lines else None
        if len(self._rest if line is None else line) > MAX_LINE_BYTES:
            raise LineTooLong(f"no line may be longer than {MAX_LINE_BYTES} bytes")
        return line

    def answer(self, message: "dict[str, Any]") -> None:
        self._outgoing += encode(message)

    def answer_in_pieces(self, pieces: "Iterator[bytes]") -> None:
        self._pieces = pieces

    def send(self, lines: "list[bytes]") -> bool:
        """Send what the peer takes of its answers and of the frames.

        Returns:
            Whether something is left that it does not take now.

        Raises:
            OSError: the connection is broken.
        """
        while self._fill(lines):
            try:
                sent = self.socket.send(self._outgoing)
            except BlockingIOError:
                return True
            self._outgoing = self._outgoing[sent:]
        return False

    def is_behind(self, lines: "list[bytes]") -> bool:
        """Whether the peer has not taken everything that is for it, the last bytes on their way included."""
        if (
            self._outgoing
            or self._pieces is not None
            or (self.cursor is not None and self.cursor < len(lines))
        ):
            return True
        try:
            found = fcntl.ioctl(self.socket.fileno(), _TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return bool(struct.unpack("i", found)[0])

    def close(self) -> None:
        self.socket.close()

    def _fill(self, lines: "list[bytes]") -> bool:
        if not self._outgoing and self._pieces is not None:
            self._outgoing = next(self._pieces, b"")
            if not self._outgoing:
                self._pieces = None
        if not self._outgoing and self.cursor is not None and self.cursor < len(lines):
            end = self.cursor + _BURST_LINES
            self._outgoing = b"".join(lines[self.cursor : end])
            self.cursor = min(end, len(lines))
        return bool(self._outgoing)
