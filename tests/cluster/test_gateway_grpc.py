"""S1, W5, B13: gRPC in front of the operator: the answers of one machine, and ends that reach the pods."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode, aio

from cluster.gateways import Gateway, gateway_at, write_kubeconfig
from cluster.tenant import Tenant
from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from eventually import eventually
from integration.gateway.calling import refused, request_for

CALCULATE = {"tool": "calculator", "arguments": {"expression": "6*7"}}
SLEEP = {"tool": "shell", "arguments": {"command": "echo begun; sleep 120"}}
CHAIN = {
    "steps": [
        {"name": "one", **CALCULATE},
        {"name": "two", "tool": "calculator", "arguments": {"expression": "$(steps.one.result) + 1"}},
    ]
}


def _shell(command: str, **spec: Any) -> dict[str, Any]:
    return {"tool": "shell", "arguments": {"command": command}, **spec}


@dataclass(frozen=True)
class Door:
    """gRPC of a gateway that serves."""

    gateway: Gateway
    port: int

    @asynccontextmanager
    async def stub(self) -> AsyncIterator["pb_grpc.AgentServiceAsyncStub"]:
        """Connect."""
        target = f"127.0.0.1:{self.port}"
        async with aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield pb_grpc.AgentServiceStub(channel)

    def metadata(self, caller: str) -> tuple[tuple[str, str], ...]:
        """Return what proves who a caller is."""
        return (("x-api-key", self.gateway.key(caller)),)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def clustered(gateway_token: str, warm: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Return the door of a gateway in front of the operator."""
    place, port = tmp_path_factory.mktemp("clustered"), _free_port()
    kubeconfig = write_kubeconfig(place / "kubeconfig", gateway_token)
    budgets = json.dumps({"bounded": {"concurrentTasks": 1}})
    settings = {"CORRAL_GRPC_PORT": str(port), "CORRAL_BUDGETS": budgets}
    with gateway_at(place, kubeconfig, warm.name, **settings) as gateway:
        yield Door(gateway, port)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Return the door of a gateway with sandboxes on this machine."""
    place, port = tmp_path_factory.mktemp("embedded"), _free_port()
    settings = {"CORRAL_EXECUTOR": "embedded", "CORRAL_GRPC_PORT": str(port)}
    with gateway_at(place, place / "none", "none", **settings) as gateway:
        yield Door(gateway, port)


@pytest.fixture
def caller() -> str:
    """A caller whom no other test is."""
    return f"grpc-{uuid.uuid4().hex[:8]}"


#: What differs from one execution to the next.
_OF_ONE_TIME = ("taskId", "metrics", "durationMs")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if name not in _OF_ONE_TIME}
    return [_plain(each) for each in value] if isinstance(value, list) else value


async def _answer(door: Door, spec: dict[str, Any], caller: str) -> Any:
    async with door.stub() as stub:
        try:
            response = await stub.ExecuteTask(request_for(spec), metadata=door.metadata(caller), timeout=120)
        except aio.AioRpcError as error:
            return error.code(), error.details()
    assert response.task_id
    assert response.metrics.executions > 0
    return _plain(MessageToDict(response))


@pytest.mark.parametrize(
    "spec",
    [
        CALCULATE,
        CHAIN,
        _shell("echo out; echo err >&2; exit 3"),
        _shell("sleep 60", limits={"timeout": "1s"}),
        {"tool": "calculator", "arguments": {"expression": "1/0"}},
        {"tool": "calculator", "arguments": {"expresion": "1"}},
        {"tool": "no-such-tool"},
        {"tool": "calculator", "limits": {"memory": "much"}},
        _shell("true", workspace={"hostPath": "/"}),
    ],
    ids=[
        "a result",
        "a chain",
        "an exit code",
        "a deadline",
        "an error",
        "wrong arguments",
        "no tool",
        "a field",
        "a path",
    ],
)
async def test_A1_a_call_over_grpc_is_answered_as_on_one_machine(
    embedded: Door, clustered: Door, caller: str, spec: dict[str, Any]
) -> None:
    assert await _answer(clustered, spec, caller) == await _answer(embedded, spec, caller)


async def test_S1_a_stream_tells_of_a_chain_from_its_beginning_to_its_end(
    clustered: Door, caller: str
) -> None:
    async with clustered.stub() as stub:
        call = stub.StreamExecuteTask(request_for(CHAIN), metadata=clustered.metadata(caller), timeout=120)
        updates = [update async for update in call]
    assert updates[0].state == pb.AGENT_STATE_PENDING
    assert (updates[-1].state, updates[-1].message, updates[-1].progress) == (
        pb.AGENT_STATE_COMPLETED,
        "43",
        1.0,
    )
    assert len({update.task_id for update in updates}) == 1
    assert [update.tool_call.call_id for update in updates if update.HasField("tool_call")] == ["one", "two"]
    results = [update.tool_result for update in updates if update.HasField("tool_result")]
    assert [(result.call_id, result.output.number_value) for result in results] == [("one", 42), ("two", 43)]
    progress = [update.progress for update in updates]
    assert progress == sorted(progress)


async def test_S1_a_stream_has_all_that_a_program_prints(clustered: Door, caller: str) -> None:
    async with clustered.stub() as stub:
        call = stub.StreamExecuteTask(
            request_for(_shell("for i in 1 2 3; do echo line $i; sleep 0.3; done; exit 3")),
            metadata=clustered.metadata(caller),
            timeout=120,
        )
        updates = [update async for update in call]
    printed = "".join(update.message for update in updates if update.message.startswith("line"))
    assert printed == "line 1\nline 2\nline 3\n"
    assert updates[-1].state == pb.AGENT_STATE_FAILED


def _only_task(door: Door, key: str) -> dict[str, Any]:
    with door.gateway.http(key) as http:
        (task,) = http.get("/v1/tasks").json()["items"]
    found: dict[str, Any] = task
    return found


@pytest.mark.parametrize("how", ["cancel", "disconnect", "deadline"])
@pytest.mark.parametrize("method", ["ExecuteTask", "StreamExecuteTask"])
async def test_S1_who_goes_away_ends_the_task_and_its_sandbox(
    clustered: Door, caller: str, method: str, how: str
) -> None:
    metadata = clustered.metadata(caller)
    key = metadata[0][1]

    def begun() -> bool:
        with clustered.gateway.http(key) as http:
            items = http.get("/v1/tasks").json()["items"]
        return bool(items) and items[0].get("status", {}).get("phase") == "Running"

    async with clustered.stub() as stub:
        call = getattr(stub, method)(
            request_for(SLEEP), metadata=metadata, timeout=8 if how == "deadline" else None
        )
        reading = asyncio.ensure_future(_read(call))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(begun):
                await asyncio.sleep(0.1)
        if how == "cancel":
            call.cancel()
        if how != "disconnect":
            await asyncio.wait([reading])
    if how == "deadline":
        error = reading.exception()
        assert isinstance(error, aio.AioRpcError)
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
    reading.cancel()
    await asyncio.wait([reading])
    task = await asyncio.to_thread(
        eventually,
        lambda: _only_task(clustered, key),
        lambda task: (task.get("status") or {}).get("reason") is not None,
        seconds=30,
    )
    assert task["status"]["reason"] == "Cancelled"
    assert task["status"]["executions"][0]["output"]["stdout"] == "begun\n"


async def _read(call: Any) -> None:
    if hasattr(call, "read"):
        async for _ in call:
            pass
    else:
        await call


async def _is_taken_in(call: Any) -> bool:
    update: pb.TaskUpdate = await call.read()
    return update.state == pb.AGENT_STATE_PENDING


async def test_S1_a_deadline_in_the_request_is_an_answer(clustered: Door, caller: str) -> None:
    config = pb.AgentConfig(timeout_seconds=3)
    async with clustered.stub() as stub:
        response = await stub.ExecuteTask(
            request_for(SLEEP, config=config), metadata=clustered.metadata(caller), timeout=60
        )
    assert response.status == pb.STATUS_CODE_TIMEOUT
    assert response.error_message.startswith("DeadlineExceeded")


async def test_S1_a_task_with_a_key_goes_on_and_the_same_call_finds_it(clustered: Door, caller: str) -> None:
    metadata = (*clustered.metadata(caller), ("idempotency-key", uuid.uuid4().hex))
    slow = request_for(_shell("echo begun; sleep 3; echo done"))
    async with clustered.stub() as stub:
        call = stub.StreamExecuteTask(slow, metadata=metadata)
        assert await _is_taken_in(call)
        call.cancel()
        response = await stub.ExecuteTask(slow, metadata=metadata, timeout=60)
        assert response.status == pb.STATUS_CODE_OK
        assert response.tool_results[0].stdout == "begun\ndone\n"
        again = await stub.ExecuteTask(slow, metadata=metadata, timeout=60)
        assert again.task_id == response.task_id
        other = await refused(stub.ExecuteTask(request_for(CALCULATE), metadata=metadata, timeout=60))
        assert (other.code, other.reason) == (StatusCode.ALREADY_EXISTS, "IdempotencyKeyUsed")


async def test_B4_a_budget_of_tasks_at_once_is_held_over_grpc_too(clustered: Door) -> None:
    metadata = clustered.metadata("bounded")
    async with clustered.stub() as stub:
        held = stub.StreamExecuteTask(request_for(SLEEP), metadata=metadata)
        assert await _is_taken_in(held)
        told = await refused(stub.ExecuteTask(request_for(CALCULATE), metadata=metadata, timeout=60))
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BudgetExhausted")
        held.cancel()

        async def free() -> bool:
            try:
                response = await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata, timeout=60)
            except aio.AioRpcError:
                return False
            return response.result == "42"

        async with asyncio.timeout(60):
            while not await free():
                await asyncio.sleep(0.2)
        # As soon as the end is told, and not some time later.
        assert all([await free() for _ in range(3)])


async def test_S1_tools_are_those_of_the_namespace(clustered: Door, caller: str, warm: Tenant) -> None:
    warm.tool("over-grpc", run={"function": {"code": "def main(): return 'hi'"}})
    metadata = clustered.metadata(caller)
    async with clustered.stub() as stub:

        async def there() -> bool:
            found = await stub.DiscoverTools(pb.DiscoverToolsRequest(), metadata=metadata)
            return "over-grpc" in {tool.name for tool in found.tools}

        async with asyncio.timeout(60):
            while not await there():
                await asyncio.sleep(0.1)
        response = await stub.ExecuteTask(request_for({"tool": "over_grpc"}), metadata=metadata, timeout=60)
    assert response.result == "hi"
    warm.kubectl("delete", "tool", "over-grpc")
