"""Speaks to gateways over gRPC, as callers do: over a real port, with the generated client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2 as details_pb
from grpc import StatusCode, aio
from grpc_status import rpc_status

from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral_gateway.grpc.server import GrpcServer
from corral_gateway.identity.roles import Role
from integration.gateway.running import Gateway

_DETAILS = (details_pb.ErrorInfo, details_pb.RequestInfo, details_pb.RetryInfo, details_pb.BadRequest)


@dataclass
class Door:
    """gRPC of a gateway that runs."""

    gateway: Gateway
    server: GrpcServer
    port: int

    def channel(self, **options: int) -> aio.Channel:
        """Connect."""
        given = [(f"grpc.{name}", value) for name, value in options.items()]
        # Connections of one process are shared otherwise, and with them what they are allowed.
        return aio.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1), *given])

    @asynccontextmanager
    async def stub(self) -> AsyncIterator["pb_grpc.AgentServiceAsyncStub"]:
        """Connect, and speak the interface."""
        async with self.channel() as channel:
            yield pb_grpc.AgentServiceStub(channel)

    async def metadata(
        self, caller: str = "someone", role: Role = Role.RUNNER
    ) -> tuple[tuple[str, str], ...]:
        """Return what proves who a caller is."""
        return (("x-api-key", await self.gateway.key(caller, role)),)


@asynccontextmanager
async def grpc_of(gateway: Gateway) -> AsyncIterator[Door]:
    """Serve a gateway over gRPC on a free port."""
    server = GrpcServer(gateway.services)
    port = server.listen("127.0.0.1", 0)
    await server.start()
    try:
        yield Door(gateway, server, port)
    finally:
        await server.close(grace_seconds=5)


def request_for(task: Mapping[str, Any], **fields: Any) -> pb.ExecuteTaskRequest:
    """Return the request that runs a task."""
    request = pb.ExecuteTaskRequest(**fields)
    ParseDict({"context": {"task": task}}, request)
    return request


@dataclass(frozen=True)
class Refused:
    """What a call was refused with."""

    code: StatusCode
    reason: str
    message: str
    details: Mapping[str, Any]

    @property
    def fields(self) -> list[str]:
        """The fields that are wrong."""
        return [violation.field for violation in self.details["BadRequest"].field_violations]


def refusal(error: aio.AioRpcError) -> Refused:
    """Read a refusal, which has the one form that refusals have."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read
    assert status is not None, error
    assert status.code == error.code().value[0]
    details: dict[str, Any] = {}
    for packed in status.details:
        for kind in _DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                details[kind.__name__] = kind()
                packed.Unpack(details[kind.__name__])
    info: Any = details["ErrorInfo"]
    assert info.domain == "corral.dev"
    trailing: Any = error.trailing_metadata()
    told: Any = details["RequestInfo"]
    assert told.request_id == dict(trailing)["x-request-id"]
    return Refused(error.code(), info.reason, status.message, details)


async def refused(call: Any) -> Refused:
    """Await a call that is refused."""
    with pytest.raises(aio.AioRpcError) as raised:
        await (_read(call) if hasattr(call, "read") else call)
    return refusal(raised.value)


async def _read(call: Any) -> None:
    async for _ in call:
        pass
