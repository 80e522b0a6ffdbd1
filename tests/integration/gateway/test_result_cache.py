"""M7, B1: results are used again where tools say so, for their caller alone; a key's answer is its first one."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from corral_gateway.identity.roles import Role
from integration.gateway.running import Gateway, gateway_in, problem
from integration.gateway.test_tool_registration import tool

#: Says another thing each time.
_RANDOM = "import os\ndef main(name=''):\n    return os.urandom(8).hex()"
_CACHED: dict[str, Any] = {"idempotent": True, "cacheTTL": "1h"}


async def register(gateway: Gateway, name: str, code: str = _RANDOM, **spec: Any) -> None:
    """Register a tool."""
    async with await gateway.caller("tool-admin", Role.TOOL_ADMIN) as admin:
        answer = await admin.put(f"/v1/tools/{name}", json=tool(name, code, **spec))
        assert answer.status_code in {200, 201}, answer.text


async def call(
    client: httpx.AsyncClient, name: str, parameters: Any = None, **headers: str
) -> httpx.Response:
    """Execute a tool."""
    request = {"tool_name": name, "parameters": parameters or {}}
    return await client.post("/tools/execute", json=request, headers=headers)


async def test_M7_a_result_is_used_again_where_its_tool_says_so(gateway: Gateway) -> None:
    await register(gateway, "cached", **_CACHED)
    async with await gateway.caller() as client:
        first, again = await call(client, "cached"), await call(client, "cached")
        assert again.json() == first.json()
        assert ("age" in first.headers, again.headers["age"]) == (False, "0")
        assert again.headers["location"] == first.headers["location"]
        assert len((await client.get("/v1/tasks")).json()["items"]) == 1
        assert (
            gateway.services.metrics.registry.get_sample_value(
                "corral_gateway_results_reused_total", {"tool_name": "cached"}
            )
            == 1.0
        )
        assert (await call(client, "cached", {"name": "x"})).json() != first.json()
        # Who asks for a new one gets it, and so do those who ask later.
        fresh = await call(client, "cached", None, **{"Cache-Control": "no-cache"})
        assert "age" not in fresh.headers
        assert fresh.json() != first.json()
        assert (await call(client, "cached")).json() == fresh.json()
        unkept = await call(client, "cached", None, **{"Cache-Control": "no-store"})
        assert unkept.json() != fresh.json()
        assert (await call(client, "cached", None, **{"Cache-Control": "max-age=60"})).json() == fresh.json()
        assert (await call(client, "cached", None, **{"Cache-Control": "max-age=0"})).json() != fresh.json()


async def test_M7_another_callers_another_versions_and_what_failed_are_not_used_again(
    gateway: Gateway,
) -> None:
    await register(gateway, "cached", **_CACHED)
    async with await gateway.caller("one") as one, await gateway.caller("two") as two:
        first = (await call(one, "cached")).json()["output"]
        assert (await call(two, "cached")).json()["output"] != first
        await register(gateway, "cached", _RANDOM + "\n# 2", **_CACHED)
        assert (await call(one, "cached")).json()["output"] != first
        uncached: list[dict[str, Any]] = [
            {"cacheTTL": "1h"},
            {"idempotent": True},
            {**_CACHED, "cacheTTL": "1ms"},
        ]
        for spec in uncached:
            await register(gateway, "uncached", **spec)
            assert (await call(one, "uncached")).json() != (await call(one, "uncached")).json(), spec
        await register(
            gateway, "failing", "import os\ndef main():\n    raise ValueError(os.urandom(8).hex())", **_CACHED
        )
        assert (await call(one, "failing")).json()["error"] != (await call(one, "failing")).json()["error"]


async def test_M7_limits_hold_for_what_is_used_again(gateway: Gateway) -> None:
    gateway.hold_windows()
    await register(gateway, "cached", **_CACHED, rateLimit={"requestsPerMinute": 2})
    async with await gateway.caller() as client:
        assert [(await call(client, "cached")).status_code for _ in range(3)] == [200, 200, 429]


async def test_M7_nothing_is_used_again_where_the_settings_say_so(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RESULT_CACHE_SIZE=0) as gateway:
        await register(gateway, "cached", **_CACHED)
        async with await gateway.caller() as client:
            assert (await call(client, "cached")).json() != (await call(client, "cached")).json()


async def test_B1_execute_answers_a_key_as_it_was_answered_first(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "call-1"}
    async with gateway_in(tmp_path) as gateway:
        await register(gateway, "random", **_CACHED)
        secret = await gateway.key("someone")
        async with gateway.http(secret) as client:
            answers = await asyncio.gather(*(call(client, "random", None, **key) for _ in range(5)))
            assert len({answer.text for answer in answers}) == 1
            assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
            other = await call(client, "random", {"name": "x"}, **key)
            assert problem(other) == (409, "IdempotencyKeyUsed")
    async with gateway_in(tmp_path) as gateway, gateway.http(secret) as client:
        again = await call(client, "random", None, **key)
        assert (again.text, again.headers["idempotency-replayed"]) == (answers[0].text, "true")
        assert "age" not in again.headers
        failed = {"tool_name": "calculator", "parameters": {"expression": "1/0"}}
        headers = {"Idempotency-Key": "call-2"}
        first = await client.post("/tools/execute", json=failed, headers=headers)
        assert (await client.post("/tools/execute", json=failed, headers=headers)).text == first.text
