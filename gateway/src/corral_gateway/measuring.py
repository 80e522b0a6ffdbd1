"""ASGI middleware around everything: gives a request its context, times and counts it, tells callers their standing."""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_gateway.context import CURRENT, RequestContext
from corral_gateway.metrics import Metrics


class Measuring:
    """Around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        context = _context(scope)
        scope.setdefault("state", {})["context"] = context

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, context, message["status"], time.perf_counter() - began)
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = context.id
                if context.standing is not None:
                    headers.update(context.standing.headers)
            await send(message)

        token = CURRENT.set(context)
        try:
            await self._app(scope, receive, noted)
        finally:
            CURRENT.reset(token)

    def _note(self, scope: Scope, context: RequestContext, status: int, seconds: float) -> None:
        context.route = getattr(scope.get("route"), "path", "")
        method = context.method if context.route else "any"
        self._metrics.request_seconds.labels(method, context.route or "none", str(status)).observe(seconds)
        if context.reason is not None:
            self._metrics.drops.labels(context.reason).inc()
        elif status < 400:
            self._metrics.allowed.labels("success").inc()


def _context(scope: Scope) -> RequestContext:
    client = scope.get("client")
    headers = Headers(scope=scope)
    return RequestContext(
        "http", scope["method"], client[0] if client else "", headers.get("user-agent", "")[:256]
    )
