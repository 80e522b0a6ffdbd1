"""Metrics and health over HTTP."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from corral_operator.settings import Settings


@asynccontextmanager
async def serving(settings: Settings, ready: Callable[[], bool]) -> AsyncIterator[None]:
    """Serve ``/metrics`` on one port, ``/healthz`` and ``/readyz`` on another.

    Args:
        settings: the ports.
        ready: whether this operator does its work, or stands by to.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def alive(_: web.Request) -> web.Response:
        # That this is answered says what is asked: the event loop runs.
        return web.Response(text="ok\n")

    async def readiness(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(text="not yet\n", status=503)

    runners = []
    for port, routes in (
        (settings.metrics_port, [web.get("/metrics", metrics)]),
        (settings.health_port, [web.get("/healthz", alive), web.get("/readyz", readiness)]),
    ):
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        runners.append(runner)
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()
