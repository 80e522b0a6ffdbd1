"""ASGI middleware that answers for a handler that takes too long, and lets it go on.

Cancelled halfway, a handler could leave a task in the database that nothing runs, or what it holds held. So it ends as
it would have, unheard, and counts as its caller's open request until then: nobody gathers more of them than they may.
"""

import asyncio
import logging
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_gateway.context import CURRENT
from corral_gateway.problems import ProblemError, problem_response

log = logging.getLogger(__name__)


class _TooLateError(Exception):
    """Ends a handler that begins to answer when somebody has for it."""


class Overdue:
    """Inside of what measures and records, which so sees one answer."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """Watch over an application.

        Args:
            app: the application.
            seconds: that it may take until it begins to answer. Of these, none count in which it reads a body, or
                waits for something that its caller asked to wait for.
        """
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watched = _Watched(scope, receive, send, self._seconds)
        watched.look_later()
        try:
            await self._app(scope, watched.receive, watched.send)
        except _TooLateError:
            log.warning("the handler of a request that was answered with 504 has ended")
        finally:
            await watched.end()


class _Watched:
    """One request. Of one event loop."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._seconds = seconds
        self._is_reading = False
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        #: Answers in the handler's place.
        self._answering: asyncio.Task[None] | None = None

    def look_later(self) -> None:
        """Look after the time that a handler has."""
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    async def receive(self) -> Message:
        """See ASGI."""
        self._is_reading = True
        try:
            return await self._receive()
        finally:
            self._is_reading = False

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if self._answering is not None:
            raise _TooLateError
        self._has_begun = True
        await self._send(message)

    async def end(self) -> None:
        """Look no more; see an answer in the handler's place to its end."""
        if self._timer is not None:
            self._timer.cancel()
        if self._answering is not None:
            await asyncio.gather(self._answering, return_exceptions=True)

    def _look(self) -> None:
        if self._has_begun:
            return
        context = CURRENT.get()
        if self._is_reading or (context is not None and context.waiting):
            self.look_later()
            return
        log.warning("no answer after %g s: 504, and the handler of the request goes on", self._seconds)
        problem = ProblemError(
            HTTPStatus.GATEWAY_TIMEOUT,
            "RequestOverdue",
            f"no answer after {self._seconds:g} s (CORRAL_REQUEST_SECONDS); what was asked for may still happen",
            remedy="look whether it has, or send it again with the Idempotency-Key that it had",
        )
        answer = problem_response(Request(self._scope), problem)
        work = answer(self._scope, self._receive, self._send)
        self._answering = asyncio.get_running_loop().create_task(work, name="answer to an overdue request")
