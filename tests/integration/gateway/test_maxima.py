"""A9, A4: what a task may ask for at most; bodies that are too deep; pages of other origins."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corral_gateway.settings import Settings
from integration.gateway.running import CALCULATE, gateway_in, problem

MAXIMA: dict[str, Any] = {
    "max_tool_timeout": 30,
    "max_output_size": 10_000,
    "CORRAL_MAX_LIMITS": {"memory": "512Mi", "disk": "64Mi", "timeout": "1h"},
}


@pytest.mark.parametrize(
    ("spec", "field", "most"),
    [
        ({**CALCULATE, "limits": {"timeout": "31s"}}, "spec.limits.timeout", "30s"),
        ({**CALCULATE, "limits": {"output": "10001"}}, "spec.limits.output", "10000"),
        ({**CALCULATE, "limits": {"memory": "64Gi"}}, "spec.limits.memory", "512Mi"),
        ({**CALCULATE, "limits": {"disk": "65Mi"}}, "spec.limits.disk", "64Mi"),
        (
            {
                "steps": [
                    {"name": "one", **CALCULATE},
                    {"name": "two", **CALCULATE, "limits": {"timeout": "1h"}},
                ]
            },
            "spec.steps[1].limits.timeout",
            "30s",
        ),
    ],
    ids=["timeout", "output", "memory", "disk", "step"],
)
async def test_A4_more_than_the_maximum_is_refused_by_the_fields_name(
    tmp_path: Path, spec: dict[str, Any], field: str, most: str
) -> None:
    for directory in ("limited", "free"):
        (tmp_path / directory).mkdir()
    async with gateway_in(tmp_path / "limited", **MAXIMA) as gateway, await gateway.caller() as client:
        answer = await client.post("/v1/tasks", json=spec)
        assert problem(answer) == (422, "InvalidSpec")
        (told,) = answer.json()["problems"]
        assert told["path"] == field
        assert f"at most {most}" in told["message"]
    async with gateway_in(tmp_path / "free") as gateway, await gateway.caller() as client:
        assert (await client.post("/v1/tasks", json=spec)).status_code == 202


async def test_A4_what_asks_for_nothing_gets_the_maximum_where_its_default_is_above(tmp_path: Path) -> None:
    shell = {"tool": "shell", "arguments": {"command": "yes | head -c 20000"}}
    async with gateway_in(tmp_path, **MAXIMA) as gateway, await gateway.caller() as client:
        ended = await client.post("/v1/tasks", json=shell, params={"wait": "60s"})
        assert ended.json()["status"]["reason"] == "OutputLimit"
        small = {**shell, "limits": {"timeout": "30s", "output": "10000"}, "arguments": {"command": "echo a"}}
        ended = await client.post("/v1/tasks", json=small, params={"wait": "60s"})
        assert ended.json()["status"]["reason"] == "Completed"


@pytest.mark.parametrize("path", ["/v1/tasks", "/tools/execute"])
async def test_A9_a_body_that_is_too_deep_or_too_full_is_not_parsed(tmp_path: Path, path: str) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        for body, why in (
            (b"[" * 201 + b"]" * 201, "nested more than 200 levels"),
            (json.dumps([0] * 210_000).encode(), "more than 200000 values"),
        ):
            answer = await client.post(path, content=body)
            assert problem(answer) == (400, "MalformedBody")
            assert why in answer.json()["detail"]


async def test_A9_pages_of_named_origins_may_call_and_no_others(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, cors_origins="http://localhost:3000, https://console.example") as gateway:
        async with await gateway.caller() as client:
            ours = {"Origin": "http://localhost:3000"}
            answer = await client.get("/v1/tools", headers=ours)
            assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
            assert "access-control-allow-credentials" not in answer.headers
            exposed = answer.headers["access-control-expose-headers"]
            assert {"Retry-After", "X-RateLimit-Remaining", "X-Request-ID"} <= set(exposed.split(", "))
            asked = {
                **ours,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-api-key",
            }
            assert (await client.options("/v1/tasks", headers=asked)).status_code == 200
            theirs = {**asked, "Origin": "http://localhost:3001"}
            refused = await client.options("/v1/tasks", headers=theirs)
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
        async with gateway.http() as nobody:  # a refusal can be read as well
            told = await nobody.get("/v1/tools", headers=ours)
            assert told.status_code == 401
            assert told.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_A9_without_origins_no_page_may(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        answer = await client.get("/v1/tools", headers={"Origin": "http://localhost:3000"})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", ["localhost:3000", "http://a/path", "http://a@b", "ftp://a", "null"])
def test_A9_what_is_no_origin_is_refused(origins: str) -> None:
    given: dict[str, Any] = {"cors_origins": origins}
    with pytest.raises(ValidationError):
        Settings(_env_file=None, **given)
