"""S1, W5, B13: deadlines, callers that go away, the gateway's own end; health and reflection."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from corral.api import Reason
from corral.client import AsyncClient
from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral.sandbox.embedded import EmbeddedBackend
from corral_gateway.identity.roles import Role
from eventually import eventually_async
from integration.gateway.calling import Door, grpc_of, refused, request_for
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def door(gateway: Gateway) -> AsyncIterator[Door]:
    async with grpc_of(gateway) as served:
        yield served


async def ended(door: Door, key: str) -> dict[str, Any]:
    """Return the only task of a caller once it has ended, and see that nothing of it runs any more."""
    await eventually_async(lambda: door.gateway.executor.active == 0)
    async with door.gateway.http(key) as http:
        (task,) = (await http.get("/v1/tasks")).json()["items"]
    status: dict[str, Any] = task["status"]
    return status


async def begun(call: Any) -> None:
    """Read until the sandbox's program has printed something."""
    async for update in call:
        if update.message == "begun\n":
            return


@pytest.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Door]:
    """A gateway whose sandboxes wait: on a slow machine a whole deadline would be over before a cold one is."""
    async with EmbeddedBackend(waiting=2) as backend:
        await backend.warm_up()
        client = AsyncClient(backend=backend)
        async with gateway_in(tmp_path, client=client) as gateway, grpc_of(gateway) as served:
            yield served


@pytest.mark.parametrize("how", ["cancel", "disconnect", "deadline"])
async def test_S1_a_stream_that_nobody_reads_any_more_ends_its_task(warm: Door, how: str) -> None:
    door, metadata = warm, await warm.metadata()
    async with door.channel() as channel:
        timeout = 3 if how == "deadline" else None
        call = pb_grpc.AgentServiceStub(channel).StreamExecuteTask(
            request_for(SLEEP), metadata=metadata, timeout=timeout
        )
        await begun(call)
        assert door.gateway.executor.active == 1
        if how == "cancel":
            call.cancel()
        elif how == "disconnect":
            await channel.close(None)
        else:
            with pytest.raises(aio.AioRpcError) as raised:
                await begun(call)
            assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    status = await ended(door, metadata[0][1])
    assert status["reason"] == Reason.CANCELLED
    # Its sandbox is gone and was not left to run out: the program would have slept for a minute.
    assert status["executions"][0]["usage"]["wallSeconds"] < 50
    assert status["executions"][0]["output"]["stdout"] == "begun\n"


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_S1_a_call_that_nobody_waits_for_ends_its_task(door: Door, how: str) -> None:
    metadata = await door.metadata()
    async with door.stub() as stub:
        call = stub.ExecuteTask(
            request_for(SLEEP), metadata=metadata, timeout=2 if how == "deadline" else None
        )
        waiting = asyncio.ensure_future(call)
        if how == "cancel":
            await eventually_async(lambda: door.gateway.executor.active == 1)
            call.cancel()
            await asyncio.wait([waiting])
        else:
            with pytest.raises(aio.AioRpcError) as raised:
                await waiting
            assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert (await ended(door, metadata[0][1]))["reason"] == Reason.CANCELLED


async def test_S1_a_task_with_a_key_goes_on_and_the_same_call_finds_it(door: Door) -> None:
    metadata = (*await door.metadata(), ("idempotency-key", "again"))
    slow = request_for({"tool": "shell", "arguments": {"command": "echo begun; sleep 2; echo done"}})
    async with door.stub() as stub:
        call = stub.StreamExecuteTask(slow, metadata=metadata)
        await begun(call)
        call.cancel()
        response = await stub.ExecuteTask(slow, metadata=metadata)
    assert response.status == pb.STATUS_CODE_OK
    assert response.tool_results[0].stdout == "begun\ndone\n"


async def test_S1_a_task_of_another_caller_is_nobodys_here(door: Door) -> None:
    async with door.stub() as stub:
        response = await stub.ExecuteTask(request_for(CALCULATE), metadata=await door.metadata("ann"))
    async with await door.gateway.caller("bob") as http:
        assert (await http.get(f"/v1/tasks/{response.task_id}")).status_code == 404


async def test_S1_a_caller_who_hangs_up_at_any_moment_harms_nobody(door: Door) -> None:
    metadata = await door.metadata()
    async with door.stub() as stub:
        for number in range(40):
            call = stub.ExecuteTask(request_for(CALCULATE), metadata=metadata, timeout=0.001 + number * 0.002)
            waiting = asyncio.ensure_future(call)
            await asyncio.wait([waiting])
            error = waiting.exception()
            assert error is None or (
                isinstance(error, aio.AioRpcError) and error.code() is StatusCode.DEADLINE_EXCEEDED
            )
        await eventually_async(lambda: door.gateway.executor.active == 0)
        assert (await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)).result == "42"


async def test_S1_the_standard_health_service_is_open(door: Door) -> None:
    async with door.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "corral.agent.v1.AgentService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == SERVING
        with pytest.raises(aio.AioRpcError) as raised:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert raised.value.code() is StatusCode.NOT_FOUND


async def described(
    door: Door, *requests: reflection_pb2.ServerReflectionRequest, **options: Any
) -> list[Any]:
    async with door.channel() as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter(requests), **options
        )
        return [answer async for answer in call]


async def test_S1_reflection_tells_services_and_messages(door: Door) -> None:
    listed, file, unknown = await described(
        door,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="corral.agent.v1.AgentService"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="nobody.proto"),
    )
    services = {service.name for service in listed.list_services_response.service}
    assert {"corral.agent.v1.AgentService", "grpc.health.v1.Health"} <= services
    description = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert description.package == "corral.agent.v1"
    assert unknown.error_response.error_code == StatusCode.NOT_FOUND.value[0]


async def test_S1_reflection_can_be_for_callers_alone_or_for_nobody(tmp_path: Path) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with (
        gateway_in(tmp_path, CORRAL_GRPC_REFLECTION="authenticated") as gateway,
        grpc_of(gateway) as door,
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await described(door, asked)
        assert raised.value.code() is StatusCode.UNAUTHENTICATED
        assert await described(door, asked, metadata=await door.metadata(role=Role.VIEWER))
    async with gateway_in(tmp_path, CORRAL_GRPC_REFLECTION="off") as gateway, grpc_of(gateway) as door:
        with pytest.raises(aio.AioRpcError) as raised:
            await described(door, asked, metadata=await door.metadata())
        assert raised.value.code() is StatusCode.UNIMPLEMENTED


async def test_B13_the_end_is_told_first_and_what_runs_may_finish(gateway: Gateway) -> None:
    slow = request_for({"tool": "shell", "arguments": {"command": "echo begun; sleep 2; echo done"}})
    async with grpc_of(gateway) as door, door.stub() as stub, door.channel() as channel:
        metadata = await door.metadata()
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        call = stub.StreamExecuteTask(slow, metadata=metadata)
        await begun(call)
        closing = asyncio.ensure_future(door.server.close(grace_seconds=30))
        assert (await watching.read()).status == NOT_SERVING
        rest = [update async for update in call]
        assert rest[-1].state == pb.AGENT_STATE_COMPLETED
        await closing
        assert (await refused_by_nobody(door)) is StatusCode.UNAVAILABLE


async def test_B13_what_does_not_finish_in_time_is_ended(gateway: Gateway) -> None:
    async with grpc_of(gateway) as door, door.stub() as stub:
        metadata = await door.metadata()
        call = stub.StreamExecuteTask(request_for(SLEEP), metadata=metadata)
        await begun(call)
        await door.server.close(grace_seconds=0.1)
        with pytest.raises(aio.AioRpcError):
            await begun(call)
        # The gateway goes, not its caller: what becomes of the task, its executor decides.
        assert gateway.executor.active == 1


async def refused_by_nobody(door: Door) -> StatusCode:
    async with door.stub() as stub:
        with pytest.raises(aio.AioRpcError) as raised:
            await stub.HealthCheck(pb.HealthCheckRequest())
        return raised.value.code()


async def test_A9_streams_without_a_credential_are_bounded(door: Door) -> None:
    async with door.channel() as one, door.channel() as other:
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            for channel in (one, other)
            for _ in range(50)
        ]
        for watch in watches:
            assert (await watch.read()).status == SERVING
        told = await refused(health_pb2_grpc.HealthStub(one).Watch(health_pb2.HealthCheckRequest()))
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TooManyStreams")
        async with door.stub() as stub:
            await stub.ExecuteTask(request_for(CALCULATE), metadata=await door.metadata())
        for watch in watches:
            watch.cancel()


async def test_A9_a_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, MAX_REQUEST_SIZE=2048) as gateway, grpc_of(gateway) as door:
        metadata = await door.metadata()
        async with door.stub() as stub:
            request = pb.ExecuteTaskRequest(query="x" * 4096)
            with pytest.raises(aio.AioRpcError) as raised:
                await stub.ExecuteTask(request, metadata=metadata)
            assert raised.value.code() is StatusCode.RESOURCE_EXHAUSTED
            assert (await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)).result == "42"
