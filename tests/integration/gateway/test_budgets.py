"""B4: how much each caller may use, through restarts and crashes."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from corral_gateway.budgets.budget import Budget
from corral_gateway.budgets.ledger import Hold, Ledger
from corral_gateway.identity.roles import Role
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.stamps import OWN_ANNOTATIONS, OWN_LABELS
from integration.gateway.calling import grpc_of, refused, request_for
from integration.gateway.running import CALCULATE, SLEEP, gateway_in, problem

CHAIN = {"steps": [{"name": "one", **CALCULATE}, {"name": "two", **CALCULATE}]}


async def run(client: httpx.AsyncClient, spec: dict[str, Any], **headers: str) -> httpx.Response:
    return await client.post("/v1/tasks", json=spec, params={"wait": "60s"}, headers=headers)


async def standing(client: httpx.AsyncClient) -> dict[str, tuple[float, float | None]]:
    body = (await client.get("/v1/budget")).json()
    return {one["name"]: (one["used"], one.get("limit")) for one in body["budgets"]}


async def test_B4_executions_of_a_day_are_counted_through_restarts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_BUDGET_EXECUTIONS": 3}
    async with gateway_in(tmp_path, **settings) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            assert (await run(client, CALCULATE)).json()["status"]["reason"] == "Completed"
            assert (await standing(client))["executionsPerDay"] == (1, 3)
    async with gateway_in(tmp_path, **settings) as gateway, gateway.http(key) as client:
        assert (await run(client, CHAIN)).status_code == 201
        refused = await run(client, CALCULATE)
        assert problem(refused) == (429, "BudgetExhausted")
        assert "executionsPerDay: 3 of 3 are used" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 86400
        assert (await standing(client))["executionsPerDay"] == (3, 3)
        assert 'corral_gateway_budget_refusals_total{budget="executionsPerDay"} 1.0' in gateway.metrics_text
        async with await gateway.caller("other") as other:
            assert (await run(other, CALCULATE)).status_code == 201


async def test_B4_tasks_at_once_are_free_again_as_soon_as_their_end_is_told(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_CONCURRENT_TASKS=1) as gateway,
        await gateway.caller() as client,
    ):
        for _ in range(5):
            assert (await run(client, CALCULATE)).json()["status"]["reason"] == "Completed"
        where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
        refused = await run(client, CALCULATE)
        assert problem(refused) == (429, "BudgetExhausted")
        assert "concurrentTasks: 1 of 1" in refused.json()["detail"]
        await client.delete(where)
        await client.get(where, params={"wait": "60s"})
        assert (await run(client, CALCULATE)).status_code == 201
        assert (await standing(client))["concurrentTasks"] == (0, 1)


async def test_B4_who_has_used_their_cpu_time_begins_nothing_more(tmp_path: Path) -> None:
    burn = {"tool": "shell", "arguments": {"command": "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"}}
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_CPU_SECONDS=0.05) as gateway,
        await gateway.caller() as client,
    ):
        assert (await run(client, burn)).json()["status"]["reason"] == "Completed"
        refused = await run(client, CALCULATE)
        assert problem(refused) == (429, "BudgetExhausted")
        used, limit = (await standing(client))["cpuSecondsPerDay"]
        assert (used > 0.05, limit) == (True, 0.05)


async def test_B4_callers_and_roles_can_have_budgets_of_their_own(tmp_path: Path) -> None:
    budgets = {"role:tool-admin": {"executionsPerDay": 2}, "bot": {"concurrentTasks": 7}}
    async with gateway_in(tmp_path, CORRAL_BUDGET_EXECUTIONS=1, CORRAL_BUDGETS=budgets) as gateway:
        async with await gateway.caller("someone") as one:
            assert (await standing(one))["executionsPerDay"] == (0, 1)
        async with await gateway.caller("bot", Role.TOOL_ADMIN) as bot:
            told = await standing(bot)
            assert (told["executionsPerDay"], told["concurrentTasks"]) == ((0, 2), (0, 7))
        async with gateway.http() as nobody:
            assert (await nobody.get("/v1/budget")).status_code == 401


async def test_B4_without_budgets_all_goes_through_and_is_still_counted(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        for _ in range(4):
            assert (await run(client, CALCULATE)).status_code == 201
        assert (await standing(client))["executionsPerDay"] == (4, None)


async def test_B4_what_was_not_taken_in_costs_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "CORRAL_BUDGET_EXECUTIONS": 10,
        "CORRAL_CONCURRENT_TASKS": 1,
        "CORRAL_WAITING_TASKS": 0,
    }
    async with gateway_in(tmp_path, **settings) as gateway, await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
        for _ in range(5):
            assert problem(await run(client, CALCULATE)) == (503, "NoCapacity")
        assert (await standing(client))["executionsPerDay"] == (1, 10)
        await client.delete(where)
        await client.get(where, params={"wait": "60s"})
        # What was cancelled counts if it had begun.
        before, _ = (await standing(client))["executionsPerDay"]
        same = {"Idempotency-Key": "again"}
        assert len({(await run(client, CALCULATE, **same)).headers["location"] for _ in range(3)}) == 1
        assert (await standing(client))["executionsPerDay"] == (before + 1, 10)
        bad = {"tool": "calculator", "arguments": {"no": 1}}  # nothing of it ran
        assert (await run(client, bad)).json()["status"]["reason"] == "InvalidArguments"
        assert (await standing(client))["executionsPerDay"] == (before + 1, 10)


async def test_B4_what_a_gateway_that_was_killed_held_is_settled(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_BUDGET_CONCURRENT_TASKS": 3, "CORRAL_BUDGET_EXECUTIONS": 10}
    async with gateway_in(tmp_path, **settings) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            made = (await run(client, CALCULATE)).json()["metadata"]["uid"]
    database = Database(Settings(_env_file=None, CORRAL_DATA_DIR=tmp_path).database_url)
    ledger, now = Ledger(database), datetime.now(UTC)
    budget = Budget(concurrentTasks=3)
    late, soon = now - timedelta(seconds=1), now + timedelta(seconds=60)
    # As killed between the task's end and its charge; before the task was made; and by another, just now.
    await ledger.hold(Hold(made, "someone"), 1, budget, now, soon)
    await ledger.hold(Hold("never-made", "someone"), 2, budget, now, late)
    await ledger.hold(Hold("about-to-be", "someone"), 1, budget, now, soon)
    await database.close()
    async with gateway_in(tmp_path, **settings) as gateway, gateway.http(key) as client:
        told = await standing(client)
        assert (told["concurrentTasks"], told["executionsPerDay"]) == ((1, 3), (3, 10))


async def test_B4_of_many_that_come_at_once_no_more_than_may_are_let_in(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_CONCURRENT_TASKS=3) as gateway,
        await gateway.caller() as client,
    ):
        answers = await asyncio.gather(*(client.post("/v1/tasks", json=SLEEP) for _ in range(12)))
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 9


@pytest.mark.parametrize("name", sorted(OWN_ANNOTATIONS | OWN_LABELS))
async def test_B4_nobody_writes_on_a_task_that_it_is_not_to_be_charged(tmp_path: Path, name: str) -> None:
    async with gateway_in(tmp_path, CORRAL_BUDGET_EXECUTIONS=1) as gateway, grpc_of(gateway) as door:
        metadata, victim = await door.metadata(), str(uuid.uuid4())
        given = {"labels" if name in OWN_LABELS else "annotations": {name: victim}}
        async with door.stub() as stub:
            made = await stub.ExecuteTask(request_for(CALCULATE, metadata=given), metadata=metadata)
            called = stub.ExecuteTask(request_for(CALCULATE, metadata=given), metadata=metadata)
            assert (await refused(called)).reason == "BudgetExhausted"
        async with gateway.http(metadata[0][1]) as client:
            assert (await standing(client))["executionsPerDay"] == (1, 1)
            (task,) = (await client.get("/v1/tasks")).json()["items"]
        assert task["metadata"]["uid"] == made.task_id
        said = {**task["metadata"].get("annotations", {}), **task["metadata"]["labels"]}
        assert said.get(name) != victim


@pytest.mark.parametrize("budgets", [{"bot": {"tasks": 1}}, {"bot": {"concurrentTasks": -1}}, "no JSON"])
def test_B4_a_budget_that_is_none_is_refused(budgets: Any) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, CORRAL_BUDGETS=budgets)
