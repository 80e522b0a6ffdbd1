"""S6, B4: how many tools a caller may register, and how much is kept of what tools were."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from corral_gateway.identity.roles import Role
from corral_gateway.storage.database import Database
from corral_gateway.tools import database_tools, pruning
from corral_gateway.tools.pruning import superseded
from integration.gateway.running import Gateway, gateway_in, problem
from integration.gateway.test_tool_registration import tool

SLEEPS = "import time\ndef main():\n    time.sleep(60)"


def version(number: int, code: str = "def main():\n    pass") -> dict[str, Any]:
    """Return a manifest that tells itself from others."""
    return tool("mine", code, version=f"1.0.{number}")


async def versions(client: httpx.AsyncClient, name: str = "mine") -> list[str | None]:
    """Return what is known of a tool, newest first; None: that it was deleted."""
    items = (await client.get(f"/v1/tools/{name}/history")).json()["items"]
    return [one["tool"] and one["tool"]["spec"]["version"].rpartition(".")[2] for one in items]


async def test_B4_a_caller_registers_so_many_tools_and_takes_no_place_from_another(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_TOOLS_CALLER=2) as gateway,
        await gateway.caller("noisy", Role.TOOL_ADMIN) as noisy,
        await gateway.caller("quiet", Role.TOOL_ADMIN) as quiet,
    ):
        answers = await asyncio.gather(*(noisy.post("/v1/tools", json=tool(f"t-{n}")) for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert problem(refused) == (409, "TooManyTools")
        assert refused.json()["detail"].startswith("2 tools of yours are registered")
        assert "CORRAL_TOOLS_CALLER" in refused.json()["remedy"]
        assert problem(await noisy.put("/v1/tools/more", json=tool("more"))) == (409, "TooManyTools")
        assert (await quiet.post("/v1/tools", json=tool("theirs"))).status_code == 201
        # What they replace is theirs from then on, so another's would be one more, and their own is not.
        assert problem(await noisy.put("/v1/tools/theirs", json=tool("theirs"))) == (409, "TooManyTools")
        own = next(answer.json()["metadata"]["name"] for answer in answers if answer.status_code == 201)
        assert (await noisy.put(f"/v1/tools/{own}", json=tool(own))).status_code == 200
        assert (await quiet.put(f"/v1/tools/{own}", json=tool(own))).status_code == 200
        assert (await noisy.post("/v1/tools", json=tool("more"))).status_code == 201
        assert problem(await quiet.post("/v1/tools", json=tool("last"))) == (409, "TooManyTools")
        assert (await quiet.delete("/v1/tools/theirs")).status_code == 204
        assert (await quiet.post("/v1/tools", json=tool("last"))).status_code == 201


async def test_B4_without_a_bound_one_caller_takes_every_place_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter-proof of the one before: what keeps a caller's tools from being all there are is the bound."""
    monkeypatch.setattr(database_tools, "MOST_TOOLS", 6)
    for bound, taken, quiet_gets in ((6, 6, 409), (3, 3, 201)):
        directory = tmp_path / str(bound)
        directory.mkdir()
        async with (
            gateway_in(directory, CORRAL_TOOLS_CALLER=bound) as gateway,
            await gateway.caller("noisy", Role.TOOL_ADMIN) as noisy,
            await gateway.caller("quiet", Role.TOOL_ADMIN) as quiet,
        ):
            codes = [(await noisy.post("/v1/tools", json=tool(f"t-{n}"))).status_code for n in range(8)]
            assert codes == [201] * taken + [409] * (8 - taken)
            assert (await quiet.post("/v1/tools", json=tool("theirs"))).status_code == quiet_gets


async def test_S6_the_last_versions_of_a_tool_are_kept(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_TOOL_HISTORY=3) as gateway,
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
    ):
        for number in range(6):
            assert (await admin.put("/v1/tools/mine", json=version(number))).status_code in {200, 201}
        assert await versions(admin) == ["5", "4", "3"]
        assert (await admin.get("/v1/tools/mine")).json()["spec"]["version"] == "1.0.5"
        await admin.put("/v1/tools/other", json=tool("other"))
        await admin.delete("/v1/tools/mine")
        assert await versions(admin) == [None, "5", "4"]


async def test_S6_no_version_goes_that_a_task_may_still_run(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_TOOL_HISTORY=1) as gateway,
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
    ):
        await admin.put("/v1/tools/mine", json=version(0))
        # All of them sleep: the task runs what counts when it begins, which may be any that comes right behind it.
        await admin.put("/v1/tools/mine", json=version(1, SLEEPS))
        assert await versions(admin) == ["1"]
        where = (await admin.post("/v1/tasks", json={"tool": "mine"})).headers["location"]
        for number in range(2, 10):
            await admin.put("/v1/tools/mine", json=version(number, SLEEPS))
        assert await versions(admin) == [str(number) for number in range(9, 0, -1)]
        assert (await admin.put("/v1/tools/mine", json=version(10, SLEEPS))).status_code == 200
        refused = await admin.put("/v1/tools/mine", json=version(11, SLEEPS))
        assert problem(refused) == (409, "TooManyVersions")
        assert (await admin.get("/v1/tools/mine")).json()["spec"]["version"] == "1.0.10"
        assert len(await versions(admin)) == 10
        # Another tool is none of its business.
        for number in range(3):
            assert (await admin.put("/v1/tools/x", json=tool("x", version=f"1.0.{number}"))).status_code < 400
        assert await versions(admin, "x") == ["2"]
        await admin.delete(where)
        await admin.get(where, params={"wait": "60s"})
        assert (await admin.put("/v1/tools/mine", json=version(12, SLEEPS))).status_code == 200
        assert await versions(admin) == ["12"]


async def test_S6_of_tools_that_are_gone_the_last_are_remembered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_MOST_GONE", 2)
    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        await admin.put("/v1/tools/stays", json=tool("stays"))
        for name in ("one", "two", "three"):
            await admin.put(f"/v1/tools/{name}", json=tool(name))
            await admin.delete(f"/v1/tools/{name}")
        found = {
            name: (await admin.get(f"/v1/tools/{name}/history")).status_code
            for name in ("stays", "one", "two", "three")
        }
        assert found == {"stays": 200, "one": 404, "two": 200, "three": 200}


def test_S6_what_counted_when_a_task_came_and_all_after_it_stays() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    known = [(number, began + timedelta(hours=number)) for number in (5, 4, 3, 2, 1)]
    assert superseded(known, None) == [5, 4, 3, 2, 1]
    assert superseded(known, began + timedelta(hours=3, minutes=1)) == [2, 1]
    assert superseded(known, began + timedelta(hours=3)) == [2, 1]
    assert superseded(known, began) == []
    assert superseded([], began) == []


async def test_S6_ended_tasks_make_no_change_of_a_tool_slow(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'corral.db'}")
    try:
        await database.migrate()
        asked = pruning._oldest_task("mine").compile(
            dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
        )
        async with database.reading() as session:
            plan = (await session.execute(text(f"EXPLAIN QUERY PLAN {asked}"))).all()
        assert "tasks_unfinished" in str(plan)
    finally:
        await database.close()
