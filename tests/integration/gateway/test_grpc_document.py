"""S1, S3, S7: the examples of the Agent Core API, each as it stands there, in Python; and the one of our own page."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from corral.grpc.v1 import agent_pb2 as pb
from integration.gateway.calling import Door, grpc_of, request_for
from integration.gateway.running import Gateway

ROOT = Path(__file__).resolve().parents[3]
SUM = {"tool": "calculator", "arguments": {"expression": "42 + 58"}}

#: Messages, fields and numbers of the document.
DOCUMENT = {
    "ExecuteTaskRequest": "metadata query context mode available_tools config session_context",
    "ExecuteTaskResponse": "task_id status result tool_calls tool_results metrics error_message final_state",
    "TaskUpdate": "task_id state message tool_call tool_result progress",
    "DiscoverToolsRequest": "query categories tags exclude_dangerous max_results",
    "DiscoverToolsResponse": "tools",
    "ToolCapability": "id name description category input_schema output_schema required_permissions "
    "estimated_duration_ms is_dangerous version author tags examples rate_limit cache_ttl_ms",
    "GetToolCapabilityRequest": "tool_id",
    "GetToolCapabilityResponse": "tool",
    "GetCapabilitiesResponse": "supported_tools supported_modes max_memory_mb max_concurrent_tasks version",
    "HealthCheckResponse": "healthy message uptime_seconds active_tasks memory_usage_percent",
}


@pytest.fixture
async def door(gateway: Gateway) -> AsyncIterator[Door]:
    async with grpc_of(gateway) as served:
        yield served


def test_S1_messages_have_the_documents_fields_and_numbers() -> None:
    for name, fields in DOCUMENT.items():
        message = pb.DESCRIPTOR.message_types_by_name[name]
        assert [(field.number, field.name) for field in message.fields] == list(
            enumerate(fields.split(), start=1)
        )


async def test_S1_execute_task(door: Door) -> None:
    request = request_for(SUM, query="Calculate the sum of 42 and 58", mode=pb.EXECUTION_MODE_SIMPLE)
    async with door.stub() as stub:
        response = await stub.ExecuteTask(request, metadata=await door.metadata())
    assert f"Result: {response.result}" == "Result: 100"


async def test_S1_complete_task_execution(door: Door) -> None:
    request = request_for(
        SUM,
        query="Search for the latest Rust programming news and summarize it",
        mode=pb.EXECUTION_MODE_STANDARD,
        available_tools=["web_search", "calculator"],
        config=pb.AgentConfig(
            max_iterations=5,
            timeout_seconds=30,
            enable_sandbox=True,
            memory_limit_mb=256,
            enable_learning=False,
        ),
        session_context=pb.SessionContext(
            session_id="user-123",
            history=["User: What is Rust?", "Agent: Rust is a systems programming language..."],
            total_tokens_used=1500,
            total_cost_usd=0.003,
        ),
    )
    async with door.stub() as stub:
        response = await stub.ExecuteTask(request, metadata=await door.metadata())
    assert response.task_id
    assert response.status == pb.STATUS_CODE_OK
    assert response.HasField("metrics")
    assert response.metrics.token_usage.total_tokens == 0
    assert response.metrics.latency_ms > 0


async def test_S1_streaming_execution(door: Door) -> None:
    told = []
    async with door.stub() as stub:
        async for update in stub.StreamExecuteTask(request_for(SUM), metadata=await door.metadata()):
            told += [f"Progress: {int(update.progress * 100)}%", f"State: {pb.AgentState.Name(update.state)}"]
            if update.HasField("tool_call"):
                told.append(f"Calling tool: {update.tool_call.tool_name}")
    assert "Calling tool: calculator" in told
    assert told[-2:] == ["Progress: 100%", "State: AGENT_STATE_COMPLETED"]


async def test_S1_tool_discovery(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()
        first = await stub.DiscoverTools(
            pb.DiscoverToolsRequest(query="search", exclude_dangerous=True, max_results=5), metadata=metadata
        )
        second = await stub.DiscoverTools(
            pb.DiscoverToolsRequest(categories=["calculation"], exclude_dangerous=True, max_results=10),
            metadata=metadata,
        )
    assert 1 <= len(first.tools) <= 5
    for tool in second.tools:
        assert (tool.category, tool.is_dangerous) == ("calculation", False)
        assert tool.estimated_duration_ms >= 0
        if tool.HasField("rate_limit"):
            assert tool.rate_limit.requests_per_minute > 0


async def test_S3_error_handling(door: Door) -> None:
    async with door.stub() as stub:
        metadata = await door.metadata()

        async def told(task: Any) -> str:
            try:
                response = await stub.ExecuteTask(request_for(task), metadata=metadata)
            except aio.AioRpcError as error:
                match error.code():
                    case StatusCode.INVALID_ARGUMENT:
                        return f"Invalid request: {error.details()}"
                    case StatusCode.RESOURCE_EXHAUSTED:
                        return f"Resource limit exceeded: {error.details()}"
                    case StatusCode.UNAVAILABLE:
                        return "Service unavailable, retry later"
                return f"Unexpected error: {error}"
            if response.status == pb.STATUS_CODE_OK:
                return f"Success: {response.result}"
            return f"Task failed: {response.error_message}"

        assert await told(SUM) == "Success: 100"
        failed = await told({"tool": "calculator", "arguments": {"expression": "1/0"}})
        assert failed.startswith("Task failed: ToolError: ")
        assert (await told({"tool": 3})).startswith("Invalid request: ")
        eats = {"tool": "python", "arguments": {"code": "x = b'1' * (1 << 30)"}, "limits": {"memory": "64Mi"}}
        assert (await told(eats)).startswith("Resource limit exceeded: ")


async def test_S1_version(door: Door) -> None:
    async with door.stub() as stub:
        capabilities = await stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=await door.metadata())
    assert f"Agent version: {capabilities.version}" == "Agent version: 0.1.0"


async def test_S1_the_program_on_the_page_runs(door: Door) -> None:
    import asyncio

    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/grpc.md").read_text(encoding="utf-8"), re.DOTALL
    )
    key = await door.gateway.key("someone")
    env = {**os.environ, "CORRAL_GRPC": f"127.0.0.1:{door.port}", "CORRAL_API_KEY": key}
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Result: 100\n")
    assert "100% AGENT_STATE_COMPLETED 100" in ended.stdout
    assert "Found tool: read_file - " in ended.stdout


def test_S1_whoever_does_without_grpc_does_not_wait_for_it() -> None:
    program = (
        "import sys, corral, corral.cli, corral.client\n"
        "assert {'grpc', 'google.protobuf'}.isdisjoint(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_S1_the_extra_asks_for_what_the_generated_code_asks_for() -> None:
    folder = ROOT / "core/src/corral/grpc/v1"
    extra = (ROOT / "core/pyproject.toml").read_text(encoding="utf-8")
    stubs = (folder / "agent_pb2_grpc.py").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"GRPC_GENERATED_VERSION = '(.*)'", stubs)
    assert f'"grpcio>={wanted}"' in extra
    code = (folder / "agent_pb2.py").read_text(encoding="utf-8")
    (version,) = re.findall(r"Domain.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+)", code)
    assert f'"protobuf>={".".join(version)}"' in extra
