"""S3: every refusal over gRPC has its status code, a reason that stays, and details for programs."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from corral.api import AgentTask
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.identity.roles import Role
from corral_gateway.problems import ProblemError
from eventually import eventually_async
from integration.gateway.calling import Door, grpc_of, refused, request_for
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in

INVALID = StatusCode.INVALID_ARGUMENT


@pytest.fixture
async def door(gateway: Gateway) -> AsyncIterator[Door]:
    async with grpc_of(gateway) as served:
        yield served


async def test_S3_words_alone_need_a_language_model_and_the_refusal_says_what_to_send(door: Door) -> None:
    request = pb.ExecuteTaskRequest(query="Calculate the sum of 42 and 58", mode=pb.EXECUTION_MODE_SIMPLE)
    agent = request_for({"agent": {"prompt": "Calculate the sum of 42 and 58"}})
    async with door.stub() as stub:
        metadata = await door.metadata()
        for method in (stub.ExecuteTask, stub.StreamExecuteTask):
            for asked in (request, agent):
                told = await refused(method(asked, metadata=metadata))
                assert (told.code, told.reason) == (StatusCode.UNIMPLEMENTED, "LanguageModelNeeded")
                assert "context.task" in told.message
                assert "calculator" in told.details["ErrorInfo"].metadata["remedy"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ExecuteTaskRequest(), "context.task"),
        (request_for({}), "context.task"),
        (request_for({"tool": "calculator", "argments": {}}), "context.task.argments"),
        (request_for({"tool": "calculator", "limits": {"memory": "much"}}), "context.task.limits.memory"),
        (
            request_for({"tool": "calculator", "limits": 3}, config={"memory_limit_mb": 1}),
            "context.task.limits",
        ),
        (request_for({"tool": "calculator", "priority": 1.5}), "context.task.priority"),
        (request_for({"kind": "Tool", "spec": {}}), "context.task"),
        (request_for(CALCULATE, mode=9), "mode"),
        (request_for(CALCULATE, config={"enable_sandbox": False}), "config.enable_sandbox"),
        (request_for(CALCULATE, config={"timeout_seconds": -1}), "config.timeout_seconds"),
        (request_for(CALCULATE, config={"max_iterations": -1}), "config.max_iterations"),
        (
            request_for({**CALCULATE, "activeDeadlineSeconds": 5}, config={"timeout_seconds": 5}),
            "config.timeout_seconds",
        ),
        (
            request_for({**CALCULATE, "limits": {"memory": "64Mi"}}, config={"memory_limit_mb": 5}),
            "config.memory_limit_mb",
        ),
        (request_for(CALCULATE, available_tools=["web_search"]), "available_tools"),
    ],
)
async def test_S3_a_field_that_is_wrong_is_named(
    door: Door, request_: pb.ExecuteTaskRequest, field: str
) -> None:
    async with door.stub() as stub:
        told = await refused(stub.ExecuteTask(request_, metadata=await door.metadata()))
    assert (told.code, told.reason) == (INVALID, "InvalidSpec")
    assert any(path.startswith(field) for path in told.fields), told.fields
    assert told.message


async def test_S3_a_task_that_cannot_run_is_refused_by_its_reason(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()
        for task, code, reason in (
            ({"tool": "no_such_tool"}, StatusCode.NOT_FOUND, "ToolNotFound"),
            ({"tool": "calculator", "arguments": {"expresion": "1"}}, INVALID, "InvalidArguments"),
            (
                {**CALCULATE, "network": {"mode": "allowlist", "allowedDomains": ["example.com"]}},
                StatusCode.PERMISSION_DENIED,
                "PermissionDenied",
            ),
            (
                {**CALCULATE, "workspace": {"hostPath": "/"}},
                StatusCode.PERMISSION_DENIED,
                "PermissionDenied",
            ),
        ):
            for method in (stub.ExecuteTask, stub.StreamExecuteTask):
                told = await refused(method(request_for(task), metadata=metadata))
                assert (told.code, told.reason) == (code, reason)


async def test_S3_discovery_refuses_what_http_refuses(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()
        for request, field in (
            (pb.DiscoverToolsRequest(max_results=-1), "max_results"),
            (pb.DiscoverToolsRequest(max_results=1001), "max_results"),
            (pb.DiscoverToolsRequest(query="x" * 1001), "query"),
        ):
            told = await refused(stub.DiscoverTools(request, metadata=metadata))
            assert (told.code, told.reason, told.fields) == (INVALID, "InvalidRequest", [field])
        told = await refused(stub.GetToolCapability(pb.GetToolCapabilityRequest(), metadata=metadata))
        assert (told.code, told.fields) == (INVALID, ["tool_id"])


async def test_A8_nothing_but_health_is_open(door: Door) -> None:
    key = await door.gateway.key("someone")
    calls: tuple[tuple[str, Any], ...] = (
        ("ExecuteTask", request_for(CALCULATE)),
        ("StreamExecuteTask", request_for(CALCULATE)),
        ("DiscoverTools", pb.DiscoverToolsRequest()),
        ("GetToolCapability", pb.GetToolCapabilityRequest(tool_id="calculator")),
        ("GetCapabilities", pb.GetCapabilitiesRequest()),
    )
    methods = [method.name for method in pb.DESCRIPTOR.services_by_name["AgentService"].methods]
    assert [*(name for name, _ in calls), "HealthCheck"] == methods
    async with door.stub() as stub:
        for name, request in calls:
            for metadata in (
                (),
                (("x-api-key", "wrong"),),
                (("x-api-key", key[:-1] + ("A" if key[-1] != "A" else "B")),),
                (("authorization", f"Basic {key}"),),
                (("x-api-key-bin", key.encode()),),
            ):
                told = await refused(getattr(stub, name)(request, metadata=metadata))
                assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "Unauthenticated")
        await stub.GetCapabilities(
            pb.GetCapabilitiesRequest(), metadata=(("authorization", f"Bearer {key}"),)
        )


async def test_A8_a_viewer_runs_nothing(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata(role=Role.VIEWER)
        for method in (stub.ExecuteTask, stub.StreamExecuteTask):
            told = await refused(method(request_for(CALCULATE), metadata=metadata))
            assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "Forbidden")


async def test_M7_the_caller_is_known_before_the_message_is_read(door: Door) -> None:
    async with door.channel() as channel:
        call = channel.unary_unary("/corral.agent.v1.AgentService/ExecuteTask", bytes, bytes)
        assert (await refused(call(b"\xff"))).code is StatusCode.UNAUTHENTICATED
        told = await refused(call(b"\xff", metadata=await door.metadata()))
    assert (told.code, told.reason) == (INVALID, "MalformedBody")


async def test_A10_a_caller_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RATE_LIMIT_CALLER="1/minute") as gateway, grpc_of(gateway) as door:
        gateway.hold_windows()
        metadata = await door.metadata()
        async with door.stub() as stub:
            call = stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=metadata)
            await call
            trailing: Any = await call.trailing_metadata()
            assert dict(trailing)["x-ratelimit-remaining"] == "0"
            told = await refused(stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=metadata))
            await stub.HealthCheck(pb.HealthCheckRequest())
        async with gateway.http(metadata[0][1]) as http:  # one account for both doors
            assert (await http.get("/v1/tools")).status_code == 429
    assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RateLimited")
    assert 0 < told.details["RetryInfo"].retry_delay.seconds <= 60


async def test_A9_one_task_too_many_is_refused_at_once(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_CONCURRENT_TASKS=1, CORRAL_WAITING_TASKS=0) as gateway,
        grpc_of(gateway) as door,
        door.stub() as stub,
    ):
        metadata = await door.metadata()
        running = stub.ExecuteTask(request_for(SLEEP), metadata=metadata)
        waiting = asyncio.ensure_future(running)
        await eventually_async(lambda: gateway.executor.active == 1)
        told = await refused(stub.ExecuteTask(request_for(CALCULATE), metadata=metadata))
        running.cancel()
        await asyncio.wait([waiting])
    assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "NoCapacity")
    assert told.details["RetryInfo"].retry_delay.seconds > 0


async def test_M6_the_same_key_is_the_same_task_and_another_request_with_it_is_refused(door: Door) -> None:
    async with door.stub() as stub:
        metadata = (*await door.metadata(), ("idempotency-key", "k1"))
        first = await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)
        again = await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)
        in_context = await stub.ExecuteTask(
            request_for({**CALCULATE, "idempotencyKey": "k1"}), metadata=metadata[:1]
        )
        streamed = [u async for u in stub.StreamExecuteTask(request_for(CALCULATE), metadata=metadata)]
        told = await refused(stub.ExecuteTask(request_for({"tool": "list_dir"}), metadata=metadata))
        other = await stub.ExecuteTask(
            request_for(CALCULATE), metadata=(*await door.metadata("other"), ("idempotency-key", "k1"))
        )
        bad = await refused(
            stub.ExecuteTask(request_for(CALCULATE), metadata=(*metadata[:1], ("idempotency-key", "a b")))
        )
    assert first == again == in_context
    assert {update.task_id for update in streamed} == {first.task_id}
    assert (told.code, told.reason) == (StatusCode.ALREADY_EXISTS, "IdempotencyKeyUsed")
    assert other.task_id != first.task_id
    assert (bad.code, bad.fields) == (INVALID, ["context.task.idempotencyKey"])


async def test_S3_a_fault_of_the_gateway_tells_nothing_of_its_inside(door: Door) -> None:
    async def broken(task: AgentTask, *_: Any) -> None:
        raise RuntimeError(f"secret of {task.metadata.uid}")

    door.gateway.services.tasks._submit_guarded = broken  # type: ignore[assignment,method-assign]
    async with door.stub() as stub:
        told = await refused(stub.ExecuteTask(request_for(CALCULATE), metadata=await door.metadata()))
    assert (told.code, told.reason) == (StatusCode.INTERNAL, "InternalError")
    assert "secret" not in told.message


@pytest.mark.parametrize("status", list(HTTPStatus))
async def test_S3_a_refusal_of_any_size_arrives(door: Door, status: HTTPStatus) -> None:
    if status < 400:
        return

    async def refuse(*_: Any) -> None:
        raise ProblemError(status, "Reason", "\u2028ü" * 4000, remedy="\ud800" * 4000)

    door.gateway.services.tasks._submit_guarded = refuse  # type: ignore[assignment,method-assign]
    async with door.stub() as stub:
        told = await refused(stub.ExecuteTask(request_for(CALCULATE), metadata=await door.metadata()))
    assert told.reason == "Reason"
    assert told.code is not StatusCode.UNKNOWN


async def test_S3_many_fields_that_are_wrong_are_named_as_far_as_there_is_room(door: Door) -> None:
    task = {"tool": "calculator", **{f"field{number}ü" * 20: 1 for number in range(300)}}
    async with door.stub() as stub:
        told = await refused(stub.ExecuteTask(request_for(task), metadata=await door.metadata()))
    assert told.code is INVALID
    assert len(told.fields) >= 3
    assert all(field.startswith("context.task[") for field in told.fields)
