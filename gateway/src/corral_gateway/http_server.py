"""uvicorn, ending together with gRPC: what is told to both doors at once, and not to one after the other."""

import asyncio
import socket

import uvicorn

from corral_gateway.grpc.server import GrpcServer


class HttpServer(uvicorn.Server):
    """Serves HTTP; when it is told to end, gRPC is too."""

    def __init__(self, config: uvicorn.Config, grpc: GrpcServer | None) -> None:
        super().__init__(config)
        self._grpc = grpc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; see ``uvicorn.Server``. The application's own end waits for gRPC once more."""
        if self._grpc is None:
            await super().shutdown(sockets)
        else:
            await asyncio.gather(self._grpc.close(), super().shutdown(sockets))
