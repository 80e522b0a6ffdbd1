"""S6: gateways in front of one cluster, on one PostgreSQL, tell one history of their callers' tools."""

from pathlib import Path
from typing import Any

import pytest

from corral_gateway.identity.roles import Role
from corral_gateway.tools import pruning
from eventually import eventually_async
from integration.gateway.running import gateway_before, problem
from integration.gateway.test_tool_registration import tool
from unit.operator.api_server import ApiServer


async def test_S6_two_gateways_tell_one_history_and_forget_what_went_long_ago(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_MOST_GONE", 1)
    server = ApiServer()
    url = postgres_server.replace("+asyncpg", "")
    settings: dict[str, Any] = {
        "CORRAL_DATABASE_URL": url,
        "CORRAL_TOOL_HISTORY": 3,
        "CORRAL_NAMESPACE": "shared",
    }
    async with (
        gateway_before(server, tmp_path, **settings) as one,
        gateway_before(server, tmp_path, **settings) as two,
    ):
        key = await one.key("admin", Role.TOOL_ADMIN)
        async with one.http(key) as here, two.http(key) as there:
            assert (await here.post("/v1/tools", json=tool("mine"))).status_code == 201
            assert problem(await there.post("/v1/tools", json=tool("mine"))) == (409, "ToolExists")
            for number in range(4):
                client = (here, there)[number % 2]
                replaced = await client.put("/v1/tools/mine", json=tool("mine", version=f"1.0.{number}"))
                assert replaced.status_code == 200
            for client in (here, there):
                items = (await client.get("/v1/tools/mine/history")).json()["items"]
                assert [each["tool"]["spec"]["version"] for each in items] == ["1.0.3", "1.0.2", "1.0.1"]
            for name in ("a", "b"):
                await here.post("/v1/tools", json=tool(name))
                assert (await there.delete(f"/v1/tools/{name}")).status_code == 204
            await eventually_async(lambda: "b" not in one.services.tools.catalogue("admin"))
            assert (await here.get("/v1/tools/a/history")).status_code == 404
            assert (await here.get("/v1/tools/b/history")).status_code == 200
