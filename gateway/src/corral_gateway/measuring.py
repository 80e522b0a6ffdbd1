"""ASGI middleware that times every request, counts those let through, and tells callers where they stand."""

import time
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_gateway.metrics import Metrics

if TYPE_CHECKING:
    from corral_gateway.rate_limits import Standing


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

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, message["status"], time.perf_counter() - began)
                standing: Standing | None = scope.get("state", {}).get("standing")
                if standing is not None:
                    MutableHeaders(scope=message).update(standing.headers)
            await send(message)

        await self._app(scope, receive, noted)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # As it is declared, never as it was asked for: a path may hold anything.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"
        self._metrics.request_seconds.labels(method, route, str(status)).observe(seconds)
        if status < 400:
            self._metrics.allowed.labels("success").inc()
