"""S6, B13: two gateways with sandboxes of their own on one PostgreSQL: tools and tasks are seen, none is run twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import update

from corral.client import AsyncClient
from corral_gateway.app import create_app
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Role
from corral_gateway.policy import policy_of
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import TaskRow
from eventually import eventually_async
from integration.gateway.running import CALCULATE, SLEEP, Gateway
from integration.gateway.test_events import parsed
from integration.gateway.test_tool_registration import call, tool


@asynccontextmanager
async def gateway_on(url: str, directory: Path, **more: Any) -> AsyncIterator[Gateway]:
    """Run a gateway on a database that others use too."""
    directory.mkdir(exist_ok=True)
    settings = Settings(_env_file=None, CORRAL_DATA_DIR=directory, **more)
    database = Database(url)
    await database.migrate()
    async with AsyncClient(waiting=0, backend="embedded", policy=policy_of(settings)) as client:
        app = create_app(settings, database, client)
        async with app.router.lifespan_context(app):
            yield Gateway(app, KeyStore(database))
    await database.close()


async def test_S6_what_one_gateway_registers_the_other_knows(postgres_server: str, tmp_path: Path) -> None:
    async with (
        gateway_on(postgres_server, tmp_path / "1") as one,
        gateway_on(postgres_server, tmp_path / "2") as two,
    ):
        admin, other = await one.caller("admin", Role.TOOL_ADMIN), await two.caller("other")
        async with admin, other:
            answers = await asyncio.gather(*(admin.post("/v1/tools", json=tool("mine")) for _ in range(6)))
            assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
            answers = await asyncio.gather(
                *(admin.put("/v1/tools/mine", json=tool("mine")) for _ in range(6))
            )
            assert {answer.status_code for answer in answers} == {200}
            catalogue = two.services.tools.catalogue("other")
            await eventually_async(lambda: "mine" in catalogue)
            assert (await call(other, "mine", name="Ann"))["output"] == "Hello, Ann"
            assert (await admin.delete("/v1/tools/mine")).status_code == 204
            await eventually_async(lambda: "mine" not in catalogue)
            assert len((await admin.get("/v1/tools/mine/history")).json()["items"]) == 8


async def test_B13_a_gateway_that_starts_takes_nothing_from_one_that_lives(
    postgres_server: str, tmp_path: Path
) -> None:
    async with gateway_on(postgres_server, tmp_path / "1") as one:
        key = await one.key("someone")
        async with one.http(key) as client:
            running = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
            (live,) = one.executor._running.values()
            await eventually_async(lambda: live.status is not None and not live.status_is_new)
            async with gateway_on(postgres_server, tmp_path / "2") as two, two.http(key) as elsewhere:
                assert two.executor.active == 0
                assert (await elsewhere.get(running)).json()["status"]["phase"] == "Running"
                done = await elsewhere.post("/v1/tasks?wait=60s", json=CALCULATE)
                assert done.json()["status"]["reason"] == "Completed"
                events = await elsewhere.get(f"{done.headers['location']}/events")
                assert "event: finished" in events.text
            await client.delete(running)
            ended = (await client.get(running, params={"wait": "60s"})).json()
            assert ended["status"]["reason"] == "Cancelled"


async def test_B13_what_a_gateway_hands_over_it_runs_itself_and_no_other_takes(
    postgres_server: str, tmp_path: Path
) -> None:
    async with gateway_on(postgres_server, tmp_path / "1", CORRAL_CONCURRENT_TASKS=1) as one:
        key = await one.key("someone")
        async with one.http(key) as client:
            await client.post("/v1/tasks", json=SLEEP)
            left = (await client.post("/v1/tasks", json=CALCULATE)).headers["location"]
    async with gateway_on(postgres_server, tmp_path / "2") as two, two.http(key) as elsewhere:
        assert two.executor.active == 0
        assert (await elsewhere.get(left, params={"wait": "1s"})).json()["status"]["phase"] == "Pending"
        waiting = asyncio.create_task(elsewhere.get(left, params={"wait": "60s"}))
        async with gateway_on(postgres_server, tmp_path / "1"):
            assert (await waiting).json()["status"]["reason"] == "Completed"


async def test_B13_of_gateways_that_start_at_once_one_takes_what_is_nobodys(
    postgres_server: str, tmp_path: Path
) -> None:
    async with gateway_on(postgres_server, tmp_path / "1", CORRAL_CONCURRENT_TASKS=1) as one:
        key = await one.key("someone")
        async with one.http(key) as client:
            await client.post("/v1/tasks", json=SLEEP)
            places = [(await client.post("/v1/tasks", json=CALCULATE)).headers["location"] for _ in range(8)]
        uids = [where.rpartition("/")[2] for where in places]
    database = Database(postgres_server)
    async with database.writing() as session:
        await session.execute(update(TaskRow).where(TaskRow.uid.in_(uids)).values(owner=None))
    await database.close()
    async with AsyncExitStack() as running:
        two, three = await asyncio.gather(
            *(running.enter_async_context(gateway_on(postgres_server, tmp_path / name)) for name in "23")
        )
        client = await running.enter_async_context(two.http(key))
        (owner,) = set(await owners_of(postgres_server, uids))
        assert owner in {two.executor._owner, three.executor._owner}
        for where in places:
            ended = (await client.get(where, params={"wait": "60s"})).json()
            assert ended["status"]["reason"] == "Completed"
            told = parsed((await client.get(f"{where}/events")).text)
            assert [kind for _, kind, _ in told].count("finished") == 1


async def owners_of(url: str, uids: list[str]) -> list[str | None]:
    """Return whose some tasks are."""
    database = Database(url)
    async with database.reading() as session:
        found = [await session.get(TaskRow, uid) for uid in uids]
    await database.close()
    return [None if row is None else row.owner for row in found]


async def test_S6_a_task_is_waited_for_followed_and_cancelled_at_any_gateway(
    postgres_server: str, tmp_path: Path
) -> None:
    counts = {"tool": "shell", "arguments": {"command": "for i in 1 2 3; do echo $i; sleep 0.7; done"}}
    async with (
        gateway_on(postgres_server, tmp_path / "1", CORRAL_CONCURRENT_TASKS=2) as one,
        gateway_on(postgres_server, tmp_path / "2") as two,
    ):
        key = await one.key("someone")
        async with one.http(key) as here, two.http(key) as there, await two.caller("other") as stranger:
            where = (await here.post("/v1/tasks", json=counts)).headers["location"]
            waiting = asyncio.create_task(there.get(where, params={"wait": "60s"}))
            told = parsed((await there.get(f"{where}/events")).text)
            assert (await waiting).json()["status"]["reason"] == "Completed"
            assert told == parsed((await here.get(f"{where}/events")).text)
            rest = await there.get(f"{where}/events", headers={"Last-Event-ID": str(told[1][0])})
            assert parsed(rest.text) == told[2:]
            blocking = [(await here.post("/v1/tasks", json=SLEEP)).headers["location"] for _ in range(2)]
            waits = (await here.post("/v1/tasks", json=CALCULATE)).headers["location"]
            await eventually_async(lambda: one.executor.places.waiting == 1)
            for cancelled in (waits, *blocking):
                assert (await stranger.delete(cancelled)).status_code == 404
                assert (await there.delete(cancelled)).status_code == 202
                ended = (await there.get(cancelled, params={"wait": "60s"})).json()
                assert ended["status"]["reason"] == "Cancelled"
                assert (await here.get(cancelled)).json() == ended
        assert two.executor._elsewhere._watched == {}


async def test_B13_a_task_that_is_cancelled_while_nobody_runs_it_ends_at_the_next_start(
    postgres_server: str, tmp_path: Path
) -> None:
    async with gateway_on(postgres_server, tmp_path / "1", CORRAL_CONCURRENT_TASKS=1) as one:
        key = await one.key("someone")
        async with one.http(key) as client:
            await client.post("/v1/tasks", json=SLEEP)
            left = (await client.post("/v1/tasks", json=CALCULATE)).headers["location"]
    async with gateway_on(postgres_server, tmp_path / "2") as two, two.http(key) as elsewhere:
        assert (await elsewhere.delete(left)).status_code == 202
    async with gateway_on(postgres_server, tmp_path / "1") as one, one.http(key) as client:
        ended = (await client.get(left, params={"wait": "60s"})).json()
        assert (ended["status"]["reason"], ended["status"].get("executions", [])) == ("Cancelled", [])
