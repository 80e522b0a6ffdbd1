"""S1, S3, S6, M7: the Agent Core API over gRPC, on a real port with the generated client and real sandboxes."""

from collections.abc import AsyncIterator

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.identity.roles import Role
from integration.gateway.calling import Door, grpc_of, refused, request_for
from integration.gateway.running import CALCULATE, Gateway

SUM = {"tool": "calculator", "arguments": {"expression": "42 + 58"}}
CHAIN = {
    "steps": [
        {"name": "sum", "tool": "calculator", "arguments": {"expression": "42 + 58"}},
        {"name": "half", "tool": "calculator", "arguments": {"expression": "$(steps.sum.result) / 2"}},
    ]
}


@pytest.fixture
async def door(gateway: Gateway) -> AsyncIterator[Door]:
    async with grpc_of(gateway) as served:
        yield served


async def test_S1_a_task_runs_and_its_answer_has_every_field(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()
        response = await stub.ExecuteTask(
            request_for(SUM, query="Calculate the sum of 42 and 58", mode=pb.EXECUTION_MODE_SIMPLE),
            metadata=metadata,
        )
    assert response.status == pb.STATUS_CODE_OK
    assert response.result == "100"
    assert [MessageToDict(call) for call in response.tool_calls] == [
        {"toolName": "calculator", "parameters": {"expression": "42 + 58"}, "callId": "main"}
    ]
    (result,) = response.tool_results
    assert (result.tool_name, result.call_id, result.status) == ("calculator", "main", pb.STATUS_CODE_OK)
    assert (result.output.number_value, result.reason) == (100, "Completed")
    assert response.metrics.latency_ms > 0
    assert response.metrics.executions == 1
    assert not response.metrics.HasField("token_usage")
    assert response.error_message == ""
    assert response.final_state == pb.AGENT_STATE_COMPLETED
    # The same task over HTTP.
    async with door.gateway.http(metadata[0][1]) as http:
        task = (await http.get(f"/v1/tasks/{response.task_id}")).json()
    assert task["status"]["executions"][0]["result"] == 100


async def test_S1_a_stream_tells_what_happens_in_order(door: Door) -> None:
    command = "echo begun; echo ended"
    async with door.stub() as stub:
        call = stub.StreamExecuteTask(
            request_for({"tool": "shell", "arguments": {"command": command}}), metadata=await door.metadata()
        )
        updates = [update async for update in call]
    assert len({update.task_id for update in updates}) == 1
    assert updates[0].state == pb.AGENT_STATE_PENDING
    (begun,) = [update for update in updates if update.HasField("tool_call")]
    assert begun.tool_call.parameters["command"] == command
    printed = "".join(update.message for update in updates if update.state == pb.AGENT_STATE_EXECUTING)
    assert "begun\nended\n" in printed
    (told,) = [update.tool_result for update in updates if update.HasField("tool_result")]
    assert told.stdout == "begun\nended\n"
    assert (updates[-1].state, updates[-1].progress) == (pb.AGENT_STATE_COMPLETED, 1.0)
    shares = [update.progress for update in updates]
    assert shares == sorted(shares)


async def test_S1_a_chain_has_a_call_and_a_result_for_each_step(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()
        response = await stub.ExecuteTask(request_for(CHAIN), metadata=metadata)
        updates = [update async for update in stub.StreamExecuteTask(request_for(CHAIN), metadata=metadata)]
    assert response.result in {"50", "50.0"}
    assert [call.call_id for call in response.tool_calls] == ["sum", "half"]
    assert [result.call_id for result in response.tool_results] == ["sum", "half"]
    assert [update.tool_call.call_id for update in updates if update.HasField("tool_call")] == ["sum", "half"]
    assert [update.tool_result.call_id for update in updates if update.HasField("tool_result")] == [
        "sum",
        "half",
    ]


async def test_S1_a_tool_that_fails_is_an_answer(door: Door) -> None:
    request = request_for({"tool": "calculator", "arguments": {"expression": "1/0"}})
    async with door.stub() as stub:
        metadata = await door.metadata()
        response = await stub.ExecuteTask(request, metadata=metadata)
        updates = [update async for update in stub.StreamExecuteTask(request, metadata=metadata)]
    assert response.status == pb.STATUS_CODE_ERROR
    assert response.error_message.startswith("ToolError: ")
    assert response.final_state == updates[-1].state == pb.AGENT_STATE_FAILED


async def test_S1_the_bounds_of_a_config_hold(door: Door) -> None:
    sleep = {"tool": "shell", "arguments": {"command": "sleep 30"}}
    async with door.stub() as stub:
        metadata = await door.metadata()
        late = await stub.ExecuteTask(
            request_for(sleep, config=pb.AgentConfig(timeout_seconds=1)), metadata=metadata
        )
        assert (late.status, late.final_state) == (pb.STATUS_CODE_TIMEOUT, pb.AGENT_STATE_FAILED)
        assert late.error_message.startswith("DeadlineExceeded: ")
        eats = {"tool": "python", "arguments": {"code": "x = b'1' * (300 << 20)"}}
        config = pb.AgentConfig(memory_limit_mb=64, enable_sandbox=True)
        told = await refused(stub.ExecuteTask(request_for(eats, config=config), metadata=metadata))
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OutOfMemory")
        whole = await stub.ExecuteTask(
            request_for(eats, config=pb.AgentConfig(memory_limit_mb=512)), metadata=metadata
        )
        assert whole.status == pb.STATUS_CODE_OK


async def test_M7_tools_are_found_as_over_http(door: Door) -> None:
    metadata = await door.metadata(role=Role.VIEWER)
    request = pb.DiscoverToolsRequest(query="read a file", categories=["files"], max_results=3)
    async with door.stub() as stub, door.gateway.http(metadata[0][1]) as http:
        found = (await stub.DiscoverTools(request, metadata=metadata)).tools
        every = (await stub.DiscoverTools(pb.DiscoverToolsRequest(), metadata=metadata)).tools
        safe = (
            await stub.DiscoverTools(pb.DiscoverToolsRequest(exclude_dangerous=True), metadata=metadata)
        ).tools
        params: dict[str, str | int] = {"query": "read a file", "category": "files", "max_results": 3}
        answer = (await http.get("/v1/tools", params=params)).json()["items"]
        names = (await http.get("/tools/list")).json()
    assert [tool.name for tool in found] == [tool["metadata"]["name"] for tool in answer]
    assert [tool.id for tool in every] == names
    assert {tool.name for tool in safe} == {tool.name for tool in every if not tool.is_dangerous}
    assert len(safe) < len(every)


async def test_S6_a_tool_is_described_whole(door: Door) -> None:
    metadata = await door.metadata(role=Role.VIEWER)
    async with door.stub() as stub, door.gateway.http(metadata[0][1]) as http:
        tool = (
            await stub.GetToolCapability(pb.GetToolCapabilityRequest(tool_id="calculator"), metadata=metadata)
        ).tool
        spec = (await http.get("/v1/tools/calculator")).json()["spec"]
        told = await refused(
            stub.GetToolCapability(pb.GetToolCapabilityRequest(tool_id="calculater"), metadata=metadata)
        )
    assert MessageToDict(tool.input_schema) == spec["inputSchema"]
    assert (tool.id, tool.name, tool.version) == ("calculator", "calculator", "1.0.0")
    assert (tool.description, tool.category) == (spec["description"], spec["category"])
    assert [example.name for example in tool.examples] == [one["name"] for one in spec["examples"]]
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "ToolNotFound")
    assert "calculator" in told.message


async def test_S1_the_gateway_tells_what_it_can_do_and_how_it_is(door: Door) -> None:
    async with door.stub() as stub:
        can = await stub.GetCapabilities(
            pb.GetCapabilitiesRequest(), metadata=await door.metadata(role=Role.VIEWER)
        )
        health = await stub.HealthCheck(pb.HealthCheckRequest())
    assert {"calculator", "shell"} <= set(can.supported_tools)
    assert list(can.supported_modes) == [pb.EXECUTION_MODE_SIMPLE, pb.EXECUTION_MODE_STANDARD]
    assert (can.max_concurrent_tasks, can.version) == (16, "0.1.0")
    assert can.max_memory_mb == 65536
    assert (health.healthy, health.message, health.active_tasks) == (True, "serving", 0)
    assert 0 < health.memory_usage_percent < 100


async def test_S5_calls_are_counted_by_method_and_status(door: Door) -> None:
    async with door.stub() as stub:
        await stub.ExecuteTask(request_for(CALCULATE), metadata=await door.metadata())
        await refused(stub.ExecuteTask(request_for(CALCULATE)))
        await stub.HealthCheck(pb.HealthCheckRequest())
    value = door.gateway.services.metrics.registry.get_sample_value
    total = "agent_core_grpc_requests_total"
    assert value(total, {"method": "ExecuteTask", "status": "OK"}) == 1
    assert value(total, {"method": "ExecuteTask", "status": "UNAUTHENTICATED"}) == 1
    assert value("agent_core_grpc_request_duration_seconds_count", {"method": "ExecuteTask"}) == 2
    assert value("agent_core_enforcement_drops_total", {"reason": "Unauthenticated"}) == 1


async def test_S1_a_chain_tells_a_steps_result_before_the_next_one_ends(door: Door) -> None:
    chain = {
        "steps": [
            {"name": "sum", "tool": "calculator", "arguments": {"expression": "42 + 58"}},
            {"name": "wait", "tool": "shell", "arguments": {"command": "sleep 60"}, "dependsOn": ["sum"]},
        ]
    }
    async with door.stub() as stub:
        call = stub.StreamExecuteTask(request_for(chain), metadata=await door.metadata())
        async for update in call:
            if update.HasField("tool_result"):
                break
        call.cancel()
    assert (update.tool_result.call_id, update.tool_result.output.number_value) == ("sum", 100)
    assert update.state == pb.AGENT_STATE_EXECUTING


async def test_S1_what_is_too_large_for_a_status_is_in_the_answer_all_the_same(door: Door) -> None:
    large = {"tool": "shell", "arguments": {"command": "head -c 200000 /dev/zero | tr '\\0' x"}}
    async with door.stub() as stub:
        metadata = await door.metadata()
        printed = await stub.ExecuteTask(request_for(large), metadata=metadata)
    assert printed.tool_results[0].stdout == "x" * 200_000
    assert not printed.tool_results[0].truncated
