"""B1, A11: TLS and client certificates from files, on a real port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc import StatusCode, aio

from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral_gateway.grpc.server import GrpcServer, ListenError
from integration.gateway.calling import refused, request_for
from integration.gateway.running import CALCULATE, Gateway, gateway_in


@dataclass
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def made(name: str, issuer: Pair | None = None) -> Pair:
    """Make a certificate: of an authority, or by one for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return Pair(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key)


@dataclass
class Files:
    """What a gateway is given."""

    directory: Path
    authority: Pair

    def renew(self, name: str = "localhost") -> Pair:
        """Write another certificate of the server, and its key."""
        pair = made(name, self.authority)
        (self.directory / "key.pem").write_bytes(pair.key_pem)
        (self.directory / "cert.pem").write_bytes(pair.pem)
        return pair

    @property
    def settings(self) -> dict[str, Any]:
        """Name the files."""
        return {
            "CORRAL_GRPC_TLS_CERT": self.directory / "cert.pem",
            "CORRAL_GRPC_TLS_KEY": self.directory / "key.pem",
        }


@pytest.fixture
def files(tmp_path: Path) -> Files:
    given = Files(tmp_path, made("authority"))
    given.renew()
    (tmp_path / "clients.pem").write_bytes(given.authority.pem)
    return given


@asynccontextmanager
async def served(gateway: Gateway) -> AsyncIterator[int]:
    server = GrpcServer(gateway.services)
    port = server.listen("127.0.0.1", 0)
    await server.start()
    try:
        yield port
    finally:
        await server.close(grace_seconds=1)


@asynccontextmanager
async def connected(
    port: int, authority: bytes, client: Pair | None = None
) -> AsyncIterator["pb_grpc.AgentServiceAsyncStub"]:
    """Connect with TLS, trusting an authority."""
    proof = (None, None) if client is None else (client.key_pem, client.pem)
    credentials = grpc.ssl_channel_credentials(authority, *proof)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield pb_grpc.AgentServiceStub(channel)


async def unreachable(stub: Any) -> StatusCode:
    with pytest.raises(aio.AioRpcError) as raised:
        await stub.HealthCheck(pb.HealthCheckRequest())
    return raised.value.code()


async def test_A11_tasks_run_over_tls_and_nothing_is_served_without(files: Files) -> None:
    async with gateway_in(files.directory, **files.settings) as gateway, served(gateway) as port:
        metadata = (("x-api-key", await gateway.key("someone")),)
        async with connected(port, files.authority.pem) as stub:
            assert (await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)).result == "42"
            assert (await refused(stub.ExecuteTask(request_for(CALCULATE)))).reason == "Unauthenticated"
        async with connected(port, made("stranger").pem) as stub:
            assert await unreachable(stub) is StatusCode.UNAVAILABLE
        async with aio.insecure_channel(f"localhost:{port}") as channel:
            assert await unreachable(pb_grpc.AgentServiceStub(channel)) is StatusCode.UNAVAILABLE


async def test_A11_with_a_client_authority_only_its_clients_connect(files: Files) -> None:
    settings = {**files.settings, "CORRAL_GRPC_TLS_CLIENT_CA": files.directory / "clients.pem"}
    async with gateway_in(files.directory, **settings) as gateway, served(gateway) as port:
        async with connected(port, files.authority.pem, made("client", files.authority)) as stub:
            assert (await stub.HealthCheck(pb.HealthCheckRequest())).healthy
            # A certificate is no key.
            assert (await refused(stub.ExecuteTask(request_for(CALCULATE)))).reason == "Unauthenticated"
        async with connected(port, files.authority.pem) as stub:
            assert await unreachable(stub) is StatusCode.UNAVAILABLE
        async with connected(port, files.authority.pem, made("client", made("stranger"))) as stub:
            assert await unreachable(stub) is StatusCode.UNAVAILABLE


async def test_A11_a_renewed_certificate_is_used_for_new_connections(files: Files) -> None:
    async with gateway_in(files.directory, **files.settings) as gateway, served(gateway) as port:
        async with connected(port, files.authority.pem) as stub:
            assert (await stub.HealthCheck(pb.HealthCheckRequest())).healthy
            files.authority = made("another authority")
            files.renew()
            assert (await stub.HealthCheck(pb.HealthCheckRequest())).healthy
        async with connected(port, files.authority.pem) as stub:
            assert (await stub.HealthCheck(pb.HealthCheckRequest())).healthy
        # A pair that does not fit together is left aside.
        (files.directory / "key.pem").write_bytes(made("other").key_pem)
        async with connected(port, files.authority.pem) as stub:
            assert (await stub.HealthCheck(pb.HealthCheckRequest())).healthy


async def test_A11_files_that_cannot_be_used_are_refused_at_start(files: Files) -> None:
    (files.directory / "key.pem").write_bytes(made("other").key_pem)
    for settings, word in (
        (files.settings, "cannot be used"),
        ({"CORRAL_GRPC_TLS_CERT": files.directory / "cert.pem"}, "both needed"),
        ({"CORRAL_GRPC_TLS_CLIENT_CA": files.directory / "clients.pem"}, "both needed"),
    ):
        async with gateway_in(files.directory, **settings) as gateway:
            with pytest.raises(ListenError, match=word):
                GrpcServer(gateway.services).listen("127.0.0.1", 0)


async def test_A11_a_port_that_is_taken_is_refused_at_start(gateway: Gateway) -> None:
    async with served(gateway) as port:
        with pytest.raises(ListenError, match=f"CORRAL_GRPC_PORT: 127.0.0.1:{port}"):
            GrpcServer(gateway.services).listen("127.0.0.1", port)
