"""B4: what each caller may keep in the artifact store: counted through restarts, given back, nobody else's concern."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_gateway.budgets.stored import NoRoomError, StoredBytes
from corral_gateway.identity.roles import Role
from corral_gateway.storage.database import Database
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in, problem

SIZE = 300_000
LEAVES = {
    "tool": "shell",
    "arguments": {"command": f"head -c {SIZE} /dev/zero > large"},
    "outputs": ["large"],
}
PRINTS = {"tool": "shell", "arguments": {"command": f"head -c {SIZE} /dev/zero | tr '\\0' x"}}


async def upload(client: httpx.AsyncClient, spec: dict[str, Any] = CALCULATE) -> httpx.Response:
    """Send a task with a file of ``SIZE`` bytes, and wait for it."""
    files = {"file": ("large", bytes(SIZE))}
    return await client.post("/v1/tasks?wait=60s", data={"task": json.dumps(spec)}, files=files)


async def run(client: httpx.AsyncClient, spec: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/tasks?wait=60s", json=spec)
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def stands(client: httpx.AsyncClient) -> tuple[float, float | None]:
    """Return what a caller keeps, and may."""
    (found,) = (
        one for one in (await client.get("/v1/budget")).json()["budgets"] if one["name"] == "storedBytes"
    )
    return found["used"], found.get("limit")


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("artifacts/*/*"))


async def test_B4_uploads_files_and_output_count_together_and_through_restarts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_BUDGET_STORED_BYTES": 3 * SIZE}
    async with gateway_in(tmp_path, **settings) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            for count, begin in enumerate((upload(client), run(client, LEAVES), run(client, PRINTS)), 1):
                await begin
                assert await stands(client) == (count * SIZE, 3 * SIZE)
    assert on_disk(tmp_path) == 3 * SIZE
    async with gateway_in(tmp_path, **settings) as gateway, gateway.http(key) as client:
        refused = await upload(client)
        assert problem(refused) == (429, "BudgetExhausted")
        told = refused.json()
        assert f"storedBytes: {3 * SIZE} of {3 * SIZE} are used" in told["detail"]
        assert f"{SIZE} more" in told["detail"]
        assert "DELETE /v1/tasks/{id}/files" in told["remedy"]
        assert refused.headers["retry-after"] == "60"
        assert 'budget_refusals_total{budget="storedBytes"} 1.0' in gateway.metrics_text
        assert await stands(client) == (3 * SIZE, 3 * SIZE)
        assert on_disk(tmp_path) == 3 * SIZE
        # What needs no store goes on.
        assert (await run(client, CALCULATE))["status"]["reason"] == "Completed"


async def test_B4_a_caller_whose_room_is_full_takes_none_from_another(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_STORED_BYTES=2 * SIZE) as gateway,
        await gateway.caller("noisy") as noisy,
        await gateway.caller("quiet") as quiet,
    ):
        answers = await asyncio.gather(*(upload(noisy) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, *[429] * 6]
        assert await stands(noisy) == (2 * SIZE, 2 * SIZE)
        assert await stands(quiet) == (0, 2 * SIZE)
        assert (await upload(quiet)).status_code == 201
        assert (await run(quiet, LEAVES))["status"]["reason"] == "Completed"
        assert on_disk(tmp_path) == 4 * SIZE


async def test_B4_without_the_budget_a_caller_keeps_as_much_as_they_like(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_STORED_BYTES=0) as gateway,
        await gateway.caller("noisy") as noisy,
    ):
        answers = await asyncio.gather(*(upload(noisy) for _ in range(8)))
        assert [answer.status_code for answer in answers] == [201] * 8
        assert await stands(noisy) == (8 * SIZE, None)
        assert on_disk(tmp_path) == 8 * SIZE


async def test_B15_what_a_task_leaves_over_the_budget_is_said_to_be_lost(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_STORED_BYTES=SIZE - 1) as gateway,
        await gateway.caller() as client,
    ):
        left = (await run(client, LEAVES))["status"]
        assert (left["phase"], left["reason"]) == ("Failed", "OutputLimit")
        assert f"storedBytes: 0 of {SIZE - 1} are used, and this would take {SIZE} more" in left["message"]
        assert left["message"].endswith("large")
        printed = (await run(client, PRINTS))["status"]
        assert printed["reason"] == "Completed"
        assert printed["executions"][0]["output"]["truncated"] is True
        assert len(printed["executions"][0]["output"]["stdout"]) == 65536
        assert printed["executions"][0].get("stored", []) == []
        assert await stands(client) == (0, SIZE - 1)
    assert on_disk(tmp_path) == 0


async def test_B4_a_caller_or_a_role_may_have_more_or_less(tmp_path: Path) -> None:
    budgets = {
        "large": {"storedBytes": 2 * SIZE},
        "role:viewer": {"storedBytes": 7},
        "none": {"storedBytes": 0},
    }
    async with gateway_in(tmp_path, CORRAL_BUDGET_STORED_BYTES=SIZE, CORRAL_BUDGETS=budgets) as gateway:
        async with await gateway.caller("small") as small, await gateway.caller("large") as large:
            assert [(await upload(small)).status_code for _ in range(2)] == [201, 429]
            assert [(await upload(large)).status_code for _ in range(3)] == [201, 201, 429]
        async with await gateway.caller("none") as none, await gateway.caller("v", Role.VIEWER) as viewer:
            assert problem(await upload(none)) == (429, "BudgetExhausted")
            assert await stands(viewer) == (0, 7)


async def test_B4_what_is_removed_is_given_back(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_BUDGET_STORED_BYTES=2 * SIZE) as gateway,
        await gateway.caller() as client,
    ):
        first = (await upload(client, LEAVES)).json()["metadata"]["uid"]
        assert await stands(client) == (2 * SIZE, 2 * SIZE)
        assert (await client.delete(f"/v1/tasks/{first}/files")).status_code == 204
        assert await stands(client) == (0, 2 * SIZE)
        assert on_disk(tmp_path) == 0
        # Once more takes nothing off, and the status stays.
        assert (await client.delete(f"/v1/tasks/{first}/files")).status_code == 204
        assert (await client.get(f"/v1/tasks/{first}")).json()["status"]["reason"] == "Completed"
        assert problem(await client.get(f"/v1/tasks/{first}/files/large")) == (410, "ArtifactGone")
        short = (await upload(client, CALCULATE | {"ttlSecondsAfterFinished": 60})).json()
        assert await stands(client) == (SIZE, 2 * SIZE)
        retention = gateway.services.retention
        assert retention is not None
        await retention.sweep(datetime.now(UTC) + timedelta(minutes=2))
        assert (await client.get(f"/v1/tasks/{short['metadata']['uid']}")).status_code == 404
        assert await stands(client) == (0, 2 * SIZE)


async def test_B4_files_of_a_task_that_runs_stay(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        uid = (await client.post("/v1/tasks", json=SLEEP)).json()["metadata"]["uid"]
        assert problem(await client.delete(f"/v1/tasks/{uid}/files")) == (409, "TaskNotEnded")
        await client.delete(f"/v1/tasks/{uid}")


async def test_B4_what_was_refused_or_failed_counts_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_WAITING_TASKS": 0, "CORRAL_CONCURRENT_TASKS": 1}
    async with gateway_in(tmp_path, **settings) as gateway, await gateway.caller() as client:
        await client.post("/v1/tasks", json=SLEEP)
        assert problem(await upload(client)) == (503, "NoCapacity")
        assert (await stands(client))[0] == 0
        assert on_disk(tmp_path) == 0


async def test_B4_what_was_counted_when_a_gateway_died_is_found(gateway: Gateway) -> None:
    stored, retention = gateway.services.budgets.stored, gateway.services.retention
    assert retention is not None
    now = datetime.now(UTC)
    await stored.take("never-taken-in", "someone", SIZE, None, now)
    async with await gateway.caller() as client:
        await upload(client)
        for later, used in ((timedelta(hours=1), 2 * SIZE), (timedelta(hours=3), SIZE)):
            await retention.sweep(now + later)
            assert (await stands(client))[0] == used


async def test_B4_of_many_at_once_no_more_fit_than_one_after_the_other(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'corral.db'}")
    try:
        await database.migrate()
        stored, now = StoredBytes(database), datetime.now(UTC)

        async def take() -> bool:
            try:
                await stored.take(str(uuid.uuid4()), "someone", 10, 55, now)
            except NoRoomError:
                return False
            return True

        assert sum(await asyncio.gather(*(take() for _ in range(20)))) == 5
        assert await stored.used("someone") == 50
    finally:
        await database.close()


@pytest.mark.parametrize("free", [0, 1 << 50])
async def test_B15_a_disk_that_would_be_full_takes_no_files(tmp_path: Path, free: int) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_ARTIFACTS_FREE_SPACE=free) as gateway,
        await gateway.caller() as client,
    ):
        answer, left = await upload(client), (await run(client, LEAVES))["status"]
        if not free:  # the counter-proof
            assert (answer.status_code, left["reason"]) == (201, "Completed")
            return
        assert problem(answer) == (503, "ArtifactStoreFull")
        assert answer.headers["retry-after"] == "60"
        assert str(tmp_path) not in answer.text
        assert left["reason"] == "OutputLimit"
        assert "nearly full" in left["message"]
        assert on_disk(tmp_path) == 0
        assert (await stands(client))[0] == 0
