"""M6, S4: how often, over all callers, each caller and each tool; and what those are told who ask too often."""

from pathlib import Path

import pytest

from corral.api import Tool
from integration.gateway.running import CALCULATE, gateway_in, problem


async def test_M6_each_caller_has_a_limit_and_is_told_where_they_stand(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_RATE_LIMIT_CALLER="3/hour") as gateway:
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
        catalogue = gateway.services.catalogue
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
