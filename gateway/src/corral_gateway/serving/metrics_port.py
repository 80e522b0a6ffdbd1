"""Prometheus metrics on a port of their own: open to whoever reaches it, and no more costly for that.

``prometheus_client``'s own server begins a thread for each connection, and waits for ever for what it sends.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.server import ServerState

from corral_gateway.serving.http_protocol import careful_protocol
from corral_gateway.serving.limits import ConnectionLimits

#: Open at once; some Prometheus servers and people look, each with a connection or two.
METRICS_CONNECTIONS = 64


@asynccontextmanager
async def serving_metrics(
    registry: CollectorRegistry, host: str, port: int, slow_seconds: float
) -> AsyncIterator[int]:
    """Serve metrics meanwhile; yields the port.

    Args:
        registry: of what is measured.
        host: address to listen on.
        port: to listen on; 0 for a free one.
        slow_seconds: as in ``ConnectionLimits``.

    Raises:
        OSError: it cannot be listened on.
    """
    limits = ConnectionLimits(METRICS_CONNECTIONS, slow_seconds, METRICS_CONNECTIONS // 2)
    protocol, state = careful_protocol(limits), ServerState()
    config = uvicorn.Config(
        _app(registry), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), host, port
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()


def _app(registry: CollectorRegistry) -> Starlette:
    # Whoever asks often waits behind themselves, and holds one thread.
    one_at_a_time = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        shorter = "gzip" in request.headers.get("accept-encoding", "")

        def written() -> bytes:
            text = encode(registry)
            return gzip.compress(text, compresslevel=1) if shorter else text

        async with one_at_a_time:
            content = await asyncio.to_thread(written)
        headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
        if shorter:
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers)

    return Starlette(routes=[Route(path, metrics) for path in ("/", "/metrics")])
