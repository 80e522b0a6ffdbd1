"""What the tool's process tells the runner of itself; ``report`` is the other end."""

import errno
import os
import sys
import time

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolFailure
from corral_runner.jsonlines import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.limits import Limits

#: Progress frames a second; a tool that reports more often loses the ones between.
_PROGRESS_PER_SECOND = 20


class Reporter:
    """The tool's side of the channel to the runner: descriptor 3."""

    __slots__ = ("_last", "_socket")

    def __init__(self) -> None:
        import _socket

        self._socket = _socket.socket(fileno=3)
        self._last = 0.0

    def ready(self, listener: "int | None") -> None:
        import _socket

        line = encode({"type": "ready", "listener": listener is not None})
        if listener is None:
            self._socket.sendall(line)
            return
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
        self._socket.sendmsg([line], rights)
        os.close(listener)

    def progress(self, fraction: "float | None", message: str) -> None:
        now = time.monotonic()
        if now - self._last < 1 / _PROGRESS_PER_SECOND and fraction != 1:
            return
        self._last = now
        self._socket.sendall(
            encode({"type": "progress", "fraction": fraction, "message": str(message)[:1000]})
        )

    def result(self, value: "Any", limit_bytes: int) -> int:
        try:
            line = encode({"type": "result", "result": value})
        except (TypeError, ValueError, RecursionError) as error:
            self.failed("ToolError", f"the tool's result is not a JSON value: {error}", None)
            return 1
        if len(line) > limit_bytes:
            sizes = f"the result is {len(line)} bytes, the limit is {limit_bytes}"
            self.failed("OutputLimit", f"{sizes}; write it to a file and name it in outputs", None)
            return 1
        self._socket.sendall(line)
        return 0

    def failed(self, reason: str, message: str, error: "BaseException | None", **details: "Any") -> None:
        body: dict[str, Any] = {"type": "error", "reason": reason, "message": message[:10_000], **details}
        if error is not None:
            body["errorType"] = type(error).__name__
            body["cause"] = str(error)[:10_000]
        self._socket.sendall(encode(body))

    def explain(self, error: BaseException, limits: "Limits") -> None:
        """Report an exception under the reason of its deepest cause that has one of its own."""
        reason = next(
            (found for found in (_limit_reason(link, limits) for link in _chain(error)) if found), None
        )
        details: dict[str, Any] = {}
        if isinstance(error, InvalidArgument):
            reason, details["field"] = reason or "InvalidArguments", error.field
        elif isinstance(error, PermissionRefused):
            reason, details["rule"] = reason or "PermissionDenied", error.rule
        elif isinstance(error, ToolFailure):
            details["details"] = error.details
        else:
            import traceback

            traceback.print_exception(error)
            sys.stderr.flush()
        message = str(error) or type(error).__name__
        try:
            self.failed(reason or "ToolError", message, error, **details)
        except (TypeError, ValueError, RecursionError):
            self.failed(reason or "ToolError", message, error)


def _chain(error: BaseException) -> "list[BaseException]":
    """The exception and what it was raised from, and so on."""
    chain: list[BaseException] = []
    cursor: BaseException | None = error
    while cursor is not None and cursor not in chain and len(chain) < 20:
        chain.append(cursor)
        cursor = cursor.__cause__ or (None if cursor.__suppress_context__ else cursor.__context__)
    return chain


_REASON_OF_ERRNO = {
    errno.ENOSPC: "DiskLimit",
    errno.EDQUOT: "DiskLimit",
    errno.EFBIG: "FileSizeLimit",
    errno.ENOMEM: "OutOfMemory",
}


def _limit_reason(error: BaseException, limits: "Limits") -> "str | None":
    if isinstance(error, MemoryError):
        return "OutOfMemory"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "ProcessLimit"
    if not isinstance(error, OSError):
        return None
    # Sockets and pipes say EAGAIN too: only a sandbox that is full makes it the process limit.
    if error.errno == errno.EAGAIN and _tasks_running() >= limits.processes:
        return "ProcessLimit"
    return _REASON_OF_ERRNO.get(error.errno or 0)


def _tasks_running() -> int:
    from corral_runner import procfs

    return procfs.sample(own_pid=1).tasks
