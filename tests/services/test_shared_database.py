"""S6, B13: two gateways with sandboxes of their own on one PostgreSQL: tools and tasks are seen, none is run twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from corral.client import AsyncClient
from corral_gateway.app import create_app
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Role
from corral_gateway.policy import policy_of
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from eventually import eventually_async
from integration.gateway.running import CALCULATE, SLEEP, Gateway
from integration.gateway.test_tool_registration import call, tool


@asynccontextmanager
async def gateway_on(url: str, directory: Path) -> AsyncIterator[Gateway]:
    """Run a gateway on a database that others use too."""
    directory.mkdir()
    settings = Settings(_env_file=None, CORRAL_DATA_DIR=directory)
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
