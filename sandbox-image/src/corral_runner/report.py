"""The runner's side of the report channel: what a tool says of itself.

Every byte of it may be a hostile tool's. It is read in bounded pieces, checked field by field, cut to size, and
believed only where a lie concerns nobody but the liar.
"""

import _socket
import os
import sys
import time

from corral_runner.jsonlines import MalformedLine, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ_BYTES = 65536
#: More than a socket's buffer can hold, in case a process is left that writes on.
_MOST_READS = 64
#: Beside its value a result line has a few words of its own.
_LINE_OVERHEAD_BYTES = 4096
#: What a tool may say of itself; every other reason is found out, not told.
_TELLABLE = frozenset(
    {
        "ToolError",
        "InvalidArguments",
        "PermissionDenied",
        "OutOfMemory",
        "ProcessLimit",
        "DiskLimit",
        "FileSizeLimit",
        "OutputLimit",
    }
)
_MESSAGE_CHARACTERS = 10_000
_PROGRESS_CHARACTERS = 200
#: Progress is for the eye: twenty frames a second at first, and never more often than a thousandth of the time
#: that has passed, so that a tool that reports in an endless loop for a day makes some 8,000 frames.
_PROGRESS_LEAST_SECONDS, _PROGRESS_PART = 0.05, 1 / 1000
#: As deep as every party on the way can carry (``corral.api.MAX_JSON_DEPTH``).
_MOST_LEVELS = 64


class Report:
    """What has arrived so far."""

    __slots__ = (
        "_free_bytes",
        "_limit_bytes",
        "_progress_at",
        "_rest",
        "_started",
        "listener",
        "progress",
        "ready",
        "socket",
        "told",
        "too_large",
        "value",
    )

    def __init__(self, socket: "_socket.socket", limit_bytes: int) -> None:
        socket.setblocking(False)
        self.socket = socket
        self._limit_bytes = limit_bytes
        self._free_bytes = 4 * limit_bytes
        self._rest = b""
        self._started = self._progress_at = time.monotonic()
        #: The restrictions are on; what comes from now on is the tool's word.
        self.ready = False
        #: The descriptor of the system call filter's notifications, if one was sent with ``ready``.
        self.listener: int | None = None
        #: The newest progress not yet passed on.
        self.progress: dict[str, Any] | None = None
        self.value: Any = None
        #: The tool's account of why it failed, with strings for values except ``details``; None while there is none.
        self.told: dict[str, Any] | None = None
        #: A line was longer than a result may be.
        self.too_large = False

    @property
    def floods(self) -> bool:
        """Whether so much has come that only a tool that writes to the channel itself can have sent it."""
        return self._free_bytes < 0

    def read(self, most_bytes: int = _READ_BYTES) -> "int | None":
        """Take one chunk; returns how many bytes came, 0 at the end, None where nothing is there."""
        try:
            if self.ready:
                # Without room for control data the kernel drops whatever descriptors a tool attaches.
                data = self.socket.recv(most_bytes)
            else:
                data, rights, _flags, _address = self.socket.recvmsg(most_bytes, _socket.CMSG_SPACE(4))
                for _level, _kind, content in rights:
                    self.listener = int.from_bytes(content[:4], sys.byteorder)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return 0
        self._free_bytes -= len(data)
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > self._limit_bytes + _LINE_OVERHEAD_BYTES:
            # Only a tool that writes to the channel itself gets here.
            self._rest = b""
            self.too_large = True
        return len(data)

    def drain(self) -> None:
        """Take the rest, after every process that could send more is dead."""
        for _ in range(_MOST_READS):
            if not self.read():
                break

    def take_progress(self, now: float) -> "dict[str, Any] | None":
        """Return progress that is due to be passed on, once."""
        progress = self.progress
        if progress is None or now < self._progress_at:
            return None
        self._progress_at = now + max(_PROGRESS_LEAST_SECONDS, (now - self._started) * _PROGRESS_PART)
        self.progress = None
        return progress

    def close(self) -> None:
        self.socket.close()
        if self.listener is not None:
            os.close(self.listener)

    def _take(self, line: bytes) -> None:
        try:
            message = decode(line)
        except MalformedLine:
            return
        if not isinstance(message, dict):
            return
        kind = message.get("type")
        if kind == "ready" and not self.ready:
            self.ready = True
            if self.listener is not None and not message.get("listener"):
                # The first word of a tool came together with this line, and a descriptor with it.
                os.close(self.listener)
                self.listener = None
        elif kind == "progress":
            self.progress = {
                "fraction": _fraction(message.get("fraction")),
                "message": clean(message.get("message", ""), _PROGRESS_CHARACTERS),
            }
        elif kind == "result":
            self._take_result(message.get("result"), len(line))
        elif kind == "error" and self.told is None:
            self.told = _error(message, before_ready=not self.ready)

    def _take_result(self, value: "Any", size: int) -> None:
        if size > self._limit_bytes + _LINE_OVERHEAD_BYTES:
            self.too_large = True
            return
        problem = json_problem(value)
        if problem is None:
            self.value = value
        elif self.told is None:
            self.told = {
                "reason": "ToolError",
                "message": f"the tool's result is not a JSON value that every party can carry: {problem}",
            }


def _fraction(value: "Any") -> "float | None":
    # A whole number may be too large to become a float.
    return float(min(1, max(0, value))) if type(value) in {int, float} else None


def _error(message: "dict[str, Any]", *, before_ready: bool) -> "dict[str, Any]":
    reason = message.get("reason")
    tellable = isinstance(reason, str) and (
        reason in _TELLABLE or (before_ready and reason == "SandboxFailed")
    )
    text = clean(message.get("message", ""), _MESSAGE_CHARACTERS)
    told: dict[str, Any] = {"reason": reason if tellable else "ToolError", "message": text}
    for name in ("errorType", "field", "rule", "cause"):
        if message.get(name) is not None:
            told[name] = clean(message[name], 1000)
    details = message.get("details")
    if details is not None and json_problem(details) is None:
        told["details"] = details
    return told


def clean(value: "Any", most: int) -> str:
    """Return a string of at most ``most`` characters that UTF-8 can encode; what is no string is only named."""
    text = value if isinstance(value, str) else f"({type(value).__name__})"
    return text[:most].encode("utf-8", "replace").decode()


def json_problem(value: "Any") -> "str | None":
    """Say why another party could not carry a decoded JSON value, None if all can.

    The same rules as ``corral.api.json_problem``.
    """
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, level = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((key, level) for key in item)
            waiting.extend((part, level + 1) for part in item.values())
        elif isinstance(item, list):
            waiting.extend((part, level + 1) for part in item)
        else:
            problem = _scalar_problem(item)
            if problem is not None:
                return problem
            continue
        if level >= _MOST_LEVELS:
            return f"more than {_MOST_LEVELS} levels of nesting"
    return None


def _scalar_problem(item: "Any") -> "str | None":
    if isinstance(item, str):
        if not item.isascii() and item.encode("utf-8", "replace").decode() != item:
            return "text with half of a surrogate pair"
    elif isinstance(item, float):
        if item - item != 0:
            return "a number that is not finite"
    elif type(item) is int and not -(1 << 63) <= item < 1 << 63:
        return "a whole number of more than 64 bits; write it as a string"
    return None
