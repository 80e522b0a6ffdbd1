"""Before a tool may use the network: wait until a connection that must be refused is refused.

A cluster's network policy reaches a new pod late: seen with a real policy controller, the first connections of a pod
went through for a second and were refused from then on.
"""

import _socket
import errno
import select
import time

from corral_runner.verdict import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral_runner.execution import Refusal
    from corral_runner.supervisor import Reactor

#: A policy that drops packets says nothing. Within a cluster an answer takes milliseconds.
_SILENCE_SECONDS = 0.5
#: After a connection that went through.
_PAUSE_SECONDS = 0.05


class Gate:
    """Takes the place of an execution until the policy is seen, or is not."""

    def __init__(
        self,
        refusal: "Refusal",
        reactor: "Reactor",
        opened: "Callable[[], None]",
        closed: "Callable[[Stop], None]",
    ) -> None:
        """Try at once.

        Args:
            refusal: what must be refused.
            reactor: tells when a connection is made.
            opened: called when it is.
            closed: called when nothing may run, and why.
        """
        self.finished = False
        self._refusal = refusal
        self._reactor = reactor
        self._opened = opened
        self._closed = closed
        self._socket: _socket.socket | None = None
        self._began = time.monotonic()
        self._at = self._began

    def next_wake(self) -> float:
        return self._at

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._at:
            return
        if self._socket is not None:  # silence
            self._leave(None)
        elif now - self._began >= self._refusal.within_seconds:
            self._leave(Stop("SandboxFailed", self._unenforced()))
        else:
            self._try(now)

    def end(self, stop: Stop) -> None:
        self._leave(stop)

    def _try(self, now: float) -> None:
        host = self._refusal.host
        family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
        attempt = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        self._socket = attempt
        self._at = now + _SILENCE_SECONDS
        code = attempt.connect_ex((host, self._refusal.port))
        if code == errno.EINPROGRESS:
            self._reactor.watch(attempt.fileno(), select.POLLOUT, self._on_answer)
        else:
            self._take(code)

    def _on_answer(self) -> None:
        assert self._socket is not None
        self._reactor.unwatch(self._socket.fileno())
        self._take(self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR))

    def _take(self, code: int) -> None:
        if code:
            self._leave(None)
            return
        self._forget()
        self._at = time.monotonic() + _PAUSE_SECONDS

    def _leave(self, stop: "Stop | None") -> None:
        if self.finished:
            return
        self.finished = True
        self._forget()
        if stop is None:
            self._opened()
        else:
            self._closed(stop)

    def _forget(self) -> None:
        if self._socket is not None:
            self._reactor.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _unenforced(self) -> str:
        refusal = self._refusal
        return (
            f"this cluster does not enforce network policies: a connection to {refusal.host} port {refusal.port}, "
            f"which must be refused, was still possible after {refusal.within_seconds:g} s; nothing ran"
        )


def result_of_nothing(stop: Stop) -> "dict[str, Any]":
    """Return the ``result`` of an execution that ended before its tool started."""
    return {
        "reason": stop.reason,
        "message": stop.message,
        "exitCode": None,
        "signal": None,
        "result": None,
        "error": None,
        "limit": None,
        "truncated": False,
        "denials": [],
        "usage": {
            "cpuSeconds": 0.0,
            "peakMemoryBytes": 0,
            "peakProcesses": 0,
            "wallSeconds": 0.0,
            "outputBytes": 0,
            "writtenBytes": 0,
        },
        "files": [],
    }
