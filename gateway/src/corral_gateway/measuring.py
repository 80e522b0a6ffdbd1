"""ASGI middleware around everything: gives a request its context, measures and records it, tells its standing."""

import logging
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_gateway.audit.auditing import Auditing
from corral_gateway.context import CURRENT, RequestContext
from corral_gateway.entrance import Entrance
from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError, internal_problem, problem_response
from corral_gateway.tracing import Tracing

log = logging.getLogger(__name__)

#: As nginx counts a request whose sender went away.
_NO_ANSWER = 499


class Measuring:
    """Around the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None, audit: Auditing, entrance: Entrance
    ) -> None:
        self._app = app
        self._entrance = entrance
        self._audit = audit
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _context(scope)
        scope.setdefault("state", {})["context"] = context
        token = CURRENT.set(context)
        try:
            if self._tracing is None:
                await self._serve(scope, receive, send, context)
            else:
                with self._tracing.request(context, Headers(scope=scope).get("traceparent")) as span:
                    self._tracing.answered(span, context, await self._serve(scope, receive, send, context))
        finally:
            self._entrance.left(context)
            CURRENT.reset(token)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> int:
        """Serve a request; return the status of its answer, or 499 where nobody waited for one."""
        began, status, seconds, is_noted = time.perf_counter(), _NO_ANSWER, 0.0, False

        async def noted(message: Message) -> None:
            nonlocal status, seconds, is_noted
            if message["type"] == "http.response.start":
                status, seconds = int(message["status"]), time.perf_counter() - began
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = context.id
                if context.standing is not None:
                    headers.update(context.standing.headers)
            await send(message)
            # Who waits for the answer does not wait for this.
            if message["type"] == "http.response.body" and not is_noted:
                is_noted = True
                self._note(scope, context, status, seconds)

        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                # No name has it, and a database that is asked for it may fail.
                problem = ProblemError(
                    HTTPStatus.BAD_REQUEST, "MalformedRequest", "there is a NUL in path or query"
                )
                await problem_response(Request(scope), problem)(scope, receive, noted)
            else:
                await self._app(scope, receive, noted)
        # Starlette would answer outside of this, and so unmeasured, unrecorded and without the request's id.
        except Exception:
            if status != _NO_ANSWER:
                raise
            log.exception("the request failed")
            await problem_response(Request(scope), internal_problem())(scope, receive, noted)
        finally:
            if status == _NO_ANSWER:
                self._record(context, status, time.perf_counter() - began)
            elif not is_noted:  # its sender went away, or nothing follows the head
                self._note(scope, context, status, seconds)
        return status

    def _note(self, scope: Scope, context: RequestContext, status: int, seconds: float) -> None:
        context.route = getattr(scope.get("route"), "path", "")
        method = context.method if context.route else "any"
        self._metrics.request_seconds.labels(method, context.route or "none", str(status)).observe(seconds)
        told = {
            "method": context.method,
            "route": context.route or "none",
            "status": status,
            "seconds": round(seconds, 6),
            "source": context.source,
        }
        log.info("request", extra=told if context.reason is None else {**told, "reason": context.reason})
        if context.reason is not None:
            self._metrics.drops.labels(context.reason).inc()
        elif status < 400:
            self._metrics.allowed.labels("success").inc()
        self._record(context, status, seconds)

    def _record(self, context: RequestContext, status: int, seconds: float) -> None:
        self._audit.request_ended(context, str(status), seconds, succeeded=status < 400)


def _context(scope: Scope) -> RequestContext:
    client = scope.get("client")
    headers = Headers(scope=scope)
    return RequestContext(
        "http",
        scope["method"],
        client[0] if client else "",
        headers.get("user-agent", "")[:256],
        target=scope["path"],
    )
