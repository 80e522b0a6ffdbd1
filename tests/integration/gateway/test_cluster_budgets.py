"""B4, B3: budgets, waiting places and circuits in front of a cluster, on an API server in memory."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from corral.api import Reason
from corral.cluster.port import AGENT_TASKS
from corral_gateway.budgets import budgets as budgets_module
from eventually import eventually_async
from integration.gateway.running import CALCULATE, Gateway, gateway_before, problem
from integration.gateway.test_breakers import breakers_of
from integration.gateway.test_budgets import standing
from unit.gateway.cluster_server import TaskServer

_EXECUTION = {"name": "main", "tool": "calculator", "attempt": 1, "phase": "Succeeded", "reason": "Completed"}


def uid_of(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    uid: str = answer.json()["metadata"]["uid"]
    return uid


def end(server: TaskServer, uid: str, cpu_seconds: float = 0.5) -> None:
    """End a task whose one execution ran."""
    server.end(uid, executions=[{**_EXECUTION, "usage": {"cpuSeconds": cpu_seconds}}])


async def ended(gateway: Gateway) -> None:
    await eventually_async(lambda: "corral_gateway_tasks_active 0.0" in gateway.metrics_text)


async def test_B4_what_a_task_holds_is_given_back_and_charged_at_its_end(tmp_path: Path) -> None:
    server = TaskServer()
    settings: dict[str, Any] = {"CORRAL_BUDGET_CONCURRENT_TASKS": 1, "CORRAL_BUDGET_CPU_SECONDS": 10}
    async with gateway_before(server, tmp_path, **settings) as gateway, await gateway.caller() as client:
        for number in range(1, 4):
            uid = uid_of(await client.post("/v1/tasks", json=CALCULATE))
            assert problem(await client.post("/v1/tasks", json=CALCULATE)) == (429, "BudgetExhausted")
            end(server, uid)
            await ended(gateway)
            assert (await standing(client))["concurrentTasks"] == (0, 1)
            assert (await standing(client))["executionsPerDay"][0] == number
            assert (await standing(client))["cpuSecondsPerDay"] == (number / 2, 10)
        assert not gateway.services.budgets._mine  # nothing is held in memory for what has ended


async def test_B4_a_restart_forgets_nothing_of_a_task_that_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(budgets_module, "_HELD_SECONDS", 0.0)
    monkeypatch.setattr(budgets_module, "_RENEW_SECONDS", 0.05)
    server = TaskServer()
    settings: dict[str, Any] = {"CORRAL_BUDGET_CONCURRENT_TASKS": 2}
    async with gateway_before(server, tmp_path, **settings) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            runs, ends = [uid_of(await client.post("/v1/tasks", json=CALCULATE)) for _ in range(2)]
    # While no gateway looks.
    end(server, ends)
    async with gateway_before(server, tmp_path, **settings) as gateway, gateway.http(key) as client:
        assert (await standing(client))["concurrentTasks"] == (1, 2)
        await asyncio.sleep(0.3)  # it is looked at again and again, and still held
        assert (await standing(client))["concurrentTasks"] == (1, 2)
        assert (await standing(client))["cpuSecondsPerDay"][0] == 0.5
        end(server, runs)
        await ended(gateway)
        assert (await standing(client))["concurrentTasks"] == (0, 2)
        assert (await standing(client))["cpuSecondsPerDay"][0] == 1


async def test_B4_nobody_gives_back_what_is_held_for_anothers_task(tmp_path: Path) -> None:
    server = TaskServer()
    settings: dict[str, Any] = {"CORRAL_BUDGET_CONCURRENT_TASKS": 1}
    async with gateway_before(server, tmp_path, **settings) as gateway, await gateway.caller() as client:
        await client.post("/v1/tasks", json=CALCULATE)
        (made,) = [body for (plural, _, _), body in server.objects.items() if plural == "agenttasks"]
        # With kubectl anybody of the namespace copies annotations, and no label of a caller.
        copied = {"name": "copy", "namespace": "team", "annotations": made["metadata"]["annotations"]}
        copy = server.put(AGENT_TASKS, {**made, "metadata": copied})
        end(server, copy["metadata"]["uid"])
        await eventually_async(lambda: "corral_gateway_tasks_active 1.0" in gateway.metrics_text)
        assert (await standing(client))["concurrentTasks"] == (1, 1)
        assert problem(await client.post("/v1/tasks", json=CALCULATE)) == (429, "BudgetExhausted")


async def test_B4_a_caller_who_floods_is_told_so_as_on_one_machine(tmp_path: Path) -> None:
    server = TaskServer()
    async with (
        gateway_before(server, tmp_path, CORRAL_WAITING_TASKS=20) as gateway,
        await gateway.caller("flooder") as flooder,
        await gateway.caller("other") as other,
    ):
        answers = await asyncio.gather(*(flooder.post("/v1/tasks", json=CALCULATE) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [503] * 15
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert problem(refused) == (503, "NoCapacity")
        assert "as many of your tasks wait as may" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert (await other.post("/v1/tasks", json=CALCULATE)).status_code == 202
        assert "corral_gateway_tasks_waiting 6.0" in gateway.metrics_text


async def test_B4_a_circuit_closes_again_after_one_task_that_went_well(tmp_path: Path) -> None:
    server = TaskServer()
    settings: dict[str, Any] = {"CORRAL_BREAKER_FAILURES": 2, "CORRAL_BREAKER_SECONDS": 30}
    async with gateway_before(server, tmp_path, **settings) as gateway, await gateway.caller() as client:
        now = [0.0]
        breakers_of(gateway)._clock = lambda: now[0]
        for _ in range(2):
            uid = uid_of(await client.post("/v1/tasks", json=CALCULATE))
            server.end(uid, Reason.SANDBOX_FAILED)
            await ended(gateway)
        assert problem(await client.post("/v1/tasks", json=CALCULATE)) == (503, "CircuitOpen")

        async def probe() -> str | None:
            answer = await client.post("/v1/tasks", json=CALCULATE)
            return uid_of(answer) if answer.status_code == 202 else None

        assert await probe() is None
        now[0] = 30.0
        probing = await probe()
        assert probing is not None
        assert await probe() is None  # one alone tries
        end(server, probing)
        await ended(gateway)
        assert await probe() is not None
        assert await probe() is not None
