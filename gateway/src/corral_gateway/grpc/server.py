"""The gRPC server: what it serves, where it listens, how it ends."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Self

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health  # type: ignore[attr-defined]  # the stubs lack it
from grpc_reflection.v1alpha import reflection, reflection_pb2

from corral.grpc.v1 import agent_pb2, agent_pb2_grpc
from corral_gateway.grpc.agent_service import AgentService
from corral_gateway.grpc.attendance import Attendance
from corral_gateway.grpc.door import Door
from corral_gateway.grpc.outcomes import MOST_BYTES
from corral_gateway.grpc.tls import CertificateError, Certificates, server_credentials
from corral_gateway.identity.roles import Scope
from corral_gateway.services import Services
from corral_gateway.settings import Settings
from corral_gateway.tracing import Tracing

log = logging.getLogger(__name__)

_AGENT = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
#: What a caller needs; None: nothing. Health and descriptions are as open as over HTTP.
_SCOPES: Mapping[str, Scope | None] = {
    f"/{_AGENT}/ExecuteTask": Scope.TASKS_RUN,
    f"/{_AGENT}/StreamExecuteTask": Scope.TASKS_RUN,
    f"/{_AGENT}/DiscoverTools": Scope.TOOLS_READ,
    f"/{_AGENT}/GetToolCapability": Scope.TOOLS_READ,
    f"/{_AGENT}/GetCapabilities": Scope.TOOLS_READ,
    f"/{_AGENT}/HealthCheck": None,
    f"/{_HEALTH}/Check": None,
    f"/{_HEALTH}/Watch": None,
}

#: A client that has gone without a word is noticed after about a minute and a half, and its tasks end.
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 60_000, 20_000
#: Clients may ping no more often; after three that do their connection is closed.
_LEAST_PING_MS, _MOST_PING_STRIKES = 10_000, 3
#: Credentials, a key, a trace: no call needs more metadata.
_MOST_METADATA_BYTES = 16 << 10
#: The health service says within so long what ``GET /ready`` does.
_HEALTH_SECONDS = 0.5


class ListenError(Exception):
    """Nothing can be served there."""

    def __init__(self, setting: str, why: str) -> None:
        self.setting = setting
        super().__init__(f"{setting}: {why}")


class GrpcServer:
    """Serves one gateway over gRPC. Made where an event loop runs."""

    def __init__(self, services: Services, tracing: Tracing | None = None) -> None:
        settings = services.settings
        self._settings = settings
        self._attendance = Attendance(services.tasks)
        self._agent = AgentService(services, self._attendance)
        self._health = health.HealthServicer()
        scopes = dict(_SCOPES)
        if settings.grpc_reflection != "off":
            needed = None if settings.grpc_reflection == "open" else Scope.TOOLS_READ
            scopes[f"/{_REFLECTION}/ServerReflectionInfo"] = needed
        self._door = Door(services, scopes, tracing)
        self._server = aio.server(interceptors=[self._door], options=_options(settings))
        agent_pb2_grpc.add_AgentServiceServicer_to_server(self._agent, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([_AGENT, _HEALTH, _REFLECTION], self._server)
        self._readiness = services.readiness
        self._telling: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def listening(cls, services: Services, tracing: Tracing | None = None) -> Self:
        """Return a server that listens where the settings say; callers are served once it is started.

        Raises:
            ListenError: it cannot listen there.
        """
        server = cls(services, tracing)
        server.listen(services.settings.host, services.settings.grpc_port)
        return server

    def listen(self, host: str, port: int) -> int:
        """Listen on an address, with TLS where the settings name files for it.

        Returns:
            The port; a free one where 0 was asked for.

        Raises:
            ListenError: it is taken, or nobody's, or the files cannot be used.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        files = _certificates(self._settings)
        try:
            if files is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, server_credentials(files))
        except CertificateError as error:
            raise ListenError("CORRAL_GRPC_TLS_CERT", str(error)) from None
        except RuntimeError:
            raise ListenError("CORRAL_GRPC_PORT", f"{address} cannot be listened on") from None

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        await self._tell_health()
        self._telling = asyncio.get_running_loop().create_task(
            self._tell_health_for_ever(), name="gRPC health"
        )

    async def is_ending(self) -> None:
        """Say from now on that nobody should be sent here."""
        await self._health.enter_graceful_shutdown()

    async def close(self, grace_seconds: float = 0) -> None:
        """Take no new calls, and give those that run some time to end.

        Whoever calls it again waits for the same end, or has it come sooner.
        """
        if self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.create_task(self._close(grace_seconds))
        else:
            await self._server.stop(grace_seconds)
        await asyncio.shield(self._closing)

    async def _close(self, grace_seconds: float) -> None:
        if self._telling is not None:
            self._telling.cancel()
        await self.is_ending()
        stopping = asyncio.get_running_loop().create_task(self._server.stop(grace_seconds))
        self._door.end()
        self._attendance.end()
        await stopping
        await self._attendance.close()

    async def _tell_health(self) -> None:
        well = self._readiness.why_not is None
        status = (
            health_pb2.HealthCheckResponse.SERVING if well else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in ("", _AGENT):  # the gateway as a whole, and the service
            await self._health.set(service, status)

    async def _tell_health_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            await self._tell_health()


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Before anybody knows who connects: how many, how long they may take to say that they speak HTTP/2 (and TLS),
        # and how long they may then do nothing. gRPC counts them together, whatever their addresses.
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", round(1000 * settings.slow_seconds)),
        ("grpc.max_connection_idle_ms", 1000 * settings.keep_alive_seconds),
        # Two gateways on one port would share its callers without anybody noticing.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_request_size),
        ("grpc.max_send_message_length", MOST_BYTES + (64 << 10)),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        ("grpc.max_metadata_size", _MOST_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MOST_METADATA_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _LEAST_PING_MS),
        ("grpc.http2.max_ping_strikes", _MOST_PING_STRIKES),
    ]


def _certificates(settings: Settings) -> Certificates | None:
    certificate, key = settings.grpc_tls_certificate, settings.grpc_tls_key
    if certificate is not None and key is not None:
        return Certificates(certificate, key, settings.grpc_tls_client_ca)
    if certificate is None and key is None and settings.grpc_tls_client_ca is None:
        return None
    # Half of it would be served without TLS, which nobody meant.
    raise ListenError("CORRAL_GRPC_TLS_CERT", "CORRAL_GRPC_TLS_CERT and CORRAL_GRPC_TLS_KEY are both needed")
