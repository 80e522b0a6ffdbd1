"""M6, S4: how often, over all callers, each caller and each tool; and what those are told who ask too often."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corral.api import Tool
from corral_gateway.settings import Settings
from integration.gateway.running import CALCULATE, gateway_in, problem


async def test_M6_each_caller_has_a_limit_and_is_told_where_they_stand(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RATE_LIMIT_CALLER="3/hour") as gateway:
        gateway.hold_windows()
        busy, other = await gateway.caller("busy"), await gateway.caller("other")
        async with busy, other:
            told = [(await busy.get("/v1/tools")).headers for _ in range(3)]
            assert [headers["x-ratelimit-limit"] for headers in told] == ["3"] * 3
            assert [headers["x-ratelimit-remaining"] for headers in told] == ["2", "1", "0"]
            assert all(0 < int(headers["x-ratelimit-reset"]) <= 3600 for headers in told)
            refused = await busy.post("/v1/tasks", json=CALCULATE)
            assert problem(refused) == (429, "RateLimited")
            assert refused.headers["x-ratelimit-remaining"] == "0"
            assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"]
            assert refused.json()["detail"] == "Rate limit exceeded: 3 per 1 hour, for you"
            assert (await other.get("/v1/tools")).status_code == 200


async def test_M6_all_callers_together_have_one(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RATE_LIMIT_GLOBAL="2/hour") as gateway:
        gateway.hold_windows()
        answers = []
        for name in ("one", "two", "three"):
            async with await gateway.caller(name) as client:
                answers.append(await client.get("/v1/tools"))
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert problem(answers[-1]) == (429, "RateLimited")
        async with gateway.http() as nobody:  # whoever is not known takes nothing from those who are
            assert (await nobody.get("/v1/tools")).status_code == 401
            assert (await nobody.get("/health")).status_code == 200


@pytest.mark.parametrize("way", ["task", "chain", "execute"])
async def test_S4_a_tool_has_the_limit_of_its_manifest_whichever_way_it_is_called(
    tmp_path: Path, way: str
) -> None:
    async with gateway_in(tmp_path) as gateway:
        gateway.hold_windows()
        catalogue = gateway.services.tools.catalogue("admin")
        wire = catalogue.get("calculator").to_wire()
        wire["metadata"]["name"] = "seldom"
        wire["spec"]["rateLimit"] = {"requestsPerMinute": 2}
        catalogue.register(Tool.model_validate(wire, context={"corral.trusted": True}))
        call = {"tool": "seldom", "arguments": {"expression": "1"}}
        path, body = {
            "task": ("/v1/tasks", call),
            "chain": ("/v1/tasks", {"steps": [{"name": "one", **call}]}),
            "execute": ("/tools/execute", {"tool_name": "seldom", "parameters": {"expression": "1"}}),
        }[way]
        async with await gateway.caller("one") as one, await gateway.caller("two") as two:
            assert (await one.post(path, json=body)).status_code < 300
            assert (await two.post(path, json=body)).status_code < 300
            refused = await one.post(path, json=body)
            assert problem(refused) == (429, "RateLimited")
            assert "the tool seldom" in refused.json()["detail"]
            assert (await one.post("/v1/tasks", json=CALCULATE)).status_code == 202


@pytest.mark.parametrize("way", ["task", "execute"])
async def test_A3_what_executes_answers_as_the_document_says_where_it_has_a_limit(
    tmp_path: Path, way: str
) -> None:
    path, body = {
        "task": ("/v1/tasks", CALCULATE),
        "execute": ("/tools/execute", {"tool_name": "calculator", "parameters": {"expression": "1"}}),
    }[way]
    async with gateway_in(tmp_path, rate_limit_requests=10) as gateway, await gateway.caller() as client:
        gateway.hold_windows()
        for _ in range(10):
            assert (await client.post(path, json=body)).status_code < 300
        refused = await client.post(path, json=body)
        assert problem(refused) == (429, "RateLimited")
        assert refused.json()["error"] == "Rate limit exceeded: 10 per 1 minute"
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert (await client.get("/v1/tools")).status_code == 200
        assert "corral_gateway_rate_limited_total" in gateway.metrics_text
        assert 'corral_gateway_rate_limited_total{limit="route"} 1.0' in gateway.metrics_text


async def test_M6_a_route_has_a_limit_for_each_caller(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RATE_LIMIT_ROUTES="GET /v1/tools=1/hour") as gateway:
        gateway.hold_windows()
        one, two = await gateway.caller("one"), await gateway.caller("two")
        async with one, two:
            assert (await one.get("/v1/tools")).status_code == 200
            assert problem(await one.get("/v1/tools")) == (429, "RateLimited")
            assert (await one.get("/tools/list")).status_code == 200
            assert (await two.get("/v1/tools")).status_code == 200


async def test_A4_limits_that_are_switched_off_let_a_flood_through(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "CORRAL_RATE_LIMIT_CALLER": "1/hour",
        "rate_limit_requests": 1,
        "rate_limit_enabled": False,
    }
    async with gateway_in(tmp_path, **settings) as gateway, await gateway.caller() as client:
        for _ in range(5):
            answer = await client.get("/v1/tools")
            assert answer.status_code == 200
            assert "x-ratelimit-limit" not in answer.headers


async def test_M6_a_caller_who_floods_takes_nothing_from_the_limit_of_all(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "CORRAL_RATE_LIMIT_CALLER": "5/hour",
        "CORRAL_RATE_LIMIT_GLOBAL": "10/hour",
    }
    async with gateway_in(tmp_path, **limits) as gateway:
        gateway.hold_windows()
        flooder, other = await gateway.caller("flooder"), await gateway.caller("other")
        async with flooder, other:
            flood = [(await flooder.get("/v1/tools")).status_code for _ in range(50)]
            assert (flood.count(200), flood.count(429)) == (5, 45)
            assert [(await other.get("/v1/tools")).status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORRAL_RATE_LIMIT_ROUTES", "POST /v1/tasks"),
        ("CORRAL_RATE_LIMIT_ROUTES", "POST /v1/tasks=often"),
        ("CORRAL_RATE_LIMIT_URL", "http://:secret@127.0.0.1"),
    ],
)
def test_M6_a_limit_that_is_none_is_refused_by_name(name: str, value: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, **given)
    assert refused.value.errors()[0]["loc"] == (name,)
    assert "secret" not in str(refused.value)
