"""S4: what fails by our own fault is not tried for a while; real tasks, on a machine whose sandboxes break."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from corral.api import AgentTask
from corral.client import AsyncClient
from corral_gateway.breakers.breakers import Breakers
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in, problem

ECHO = {"tool": "shell", "arguments": {"command": "echo a"}}


class Machine(AsyncClient):
    """One whose sandboxes can be broken."""

    def __init__(self) -> None:
        super().__init__(waiting=0, backend="embedded")
        self.broken = True

    async def run_task(self, task: AgentTask, **options: Any) -> AgentTask:
        if self.broken:
            raise OSError("no sandbox can be started")
        return await super().run_task(task, **options)


def breakers_of(gateway: Gateway) -> Breakers:
    (found,) = (guard for guard in gateway.services.tasks._guards if isinstance(guard, Breakers))
    return found


async def run(client: httpx.AsyncClient, spec: dict[str, Any]) -> httpx.Response:
    return await client.post("/v1/tasks", json=spec, params={"wait": "60s"})


async def fail(client: httpx.AsyncClient, spec: dict[str, Any], times: int) -> None:
    for _ in range(times):
        assert (await run(client, spec)).json()["status"]["reason"] == "SandboxFailed"


async def test_S4_a_tools_circuit_opens_half_opens_and_closes(tmp_path: Path) -> None:
    machine = Machine()
    async with gateway_in(tmp_path, client=machine) as gateway, await gateway.caller() as client:
        breakers = breakers_of(gateway)
        now = [0.0]
        breakers._clock = lambda: now[0]
        await fail(client, ECHO, 5)
        refused = await run(client, ECHO)
        assert problem(refused) == (503, "CircuitOpen")
        assert refused.headers["retry-after"] == "30"
        assert "the tool shell" in refused.json()["detail"]
        assert 'corral_gateway_breakers{scope="tool",state="open"} 1.0' in gateway.metrics_text
        machine.broken = False
        assert (await run(client, CALCULATE)).json()["status"]["reason"] == "Completed"  # another tool
        now[0] = 30.0
        where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]  # tries for all others
        assert problem(await run(client, ECHO)) == (503, "CircuitOpen")
        await client.delete(where)  # says nothing of how sandboxes are
        assert (await client.get(where, params={"wait": "60s"})).json()["status"]["reason"] == "Cancelled"
        assert (await run(client, ECHO)).json()["status"]["reason"] == "Completed"
        assert 'corral_gateway_breakers{scope="tool",state="closed"} 1.0' in gateway.metrics_text


async def test_S4_when_every_tool_fails_nothing_is_tried(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, client=Machine()) as gateway, await gateway.caller() as client:
        for _ in range(3):
            await fail(client, ECHO, 1)
            await fail(client, CALCULATE, 1)
        refused = await run(client, {"tool": "python", "arguments": {"code": "1"}})
        assert problem(refused) == (503, "CircuitOpen")
        assert "what runs tasks" in refused.json()["detail"]
        assert 'corral_gateway_breakers{scope="executor",state="open"} 1.0' in gateway.metrics_text


@pytest.mark.parametrize(
    "spec",
    [
        {"tool": "shell", "arguments": {"command": "exit 3"}},
        {"tool": "shell", "arguments": {"command": "sleep 60"}, "limits": {"timeout": "100ms"}},
        {"tool": "calculator", "arguments": {"expression": "1/0"}},
        {"tool": "calculator", "arguments": {}},
    ],
    ids=["exit", "deadline", "error", "arguments"],
)
async def test_S4_what_tools_do_themselves_opens_nothing(tmp_path: Path, spec: dict[str, Any]) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        reasons = {(await run(client, spec)).json()["status"]["reason"] for _ in range(6)}
        assert reasons <= {"ToolError", "DeadlineExceeded", "InvalidArguments"}


async def test_S4_without_breakers_what_fails_is_tried_for_ever(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_BREAKER_FAILURES": 0}
    async with (
        gateway_in(tmp_path, client=Machine(), **settings) as gateway,
        await gateway.caller() as client,
    ):
        await fail(client, ECHO, 12)
