"""S6, M7: those who may register tools; what they register is checked, known everywhere, kept, and harms nobody."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_gateway.identity.roles import Role
from integration.gateway.running import Gateway, gateway_in, problem


def tool(
    name: str, code: str = "def main(name='you'):\n    return f'Hello, {name}'", **spec: Any
) -> dict[str, Any]:
    """Return a manifest."""
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": name},
        "spec": {
            "description": "Greet somebody.",
            "inputSchema": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}},
            "run": {"function": {"code": code}},
            **spec,
        },
    }


async def call(client: httpx.AsyncClient, name: str, /, **parameters: Any) -> dict[str, Any]:
    """Execute a tool."""
    answer = await client.post("/tools/execute", json={"tool_name": name, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_S6_a_tool_is_registered_found_run_replaced_and_taken_out(gateway: Gateway) -> None:
    async with (
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
        await gateway.caller("other", Role.RUNNER) as other,
    ):
        etag = (await other.get("/v1/tools")).headers["etag"]
        made = await admin.post("/v1/tools", json=tool("say_hello"))
        assert (made.status_code, made.headers["location"]) == (201, "/v1/tools/say_hello")
        assert (await other.get("/v1/tools", headers={"If-None-Match": etag})).status_code == 200
        found = (await other.get("/v1/tools", params={"query": "greet somebody"})).json()["items"][0]
        assert found == made.json() == (await other.get("/v1/tools/say-hello")).json()
        assert "say_hello" in (await other.get("/tools/list")).json()
        assert await call(other, "say_hello", name="Ann") == {
            "success": True,
            "output": "Hello, Ann",
            "error": None,
        }

        assert problem(await admin.post("/v1/tools", json=tool("say-hello"))) == (409, "ToolExists")
        louder = tool("say_hello", "def main(name):\n    return name.upper()")
        assert (await admin.put("/v1/tools/say_hello", json=louder)).status_code == 200
        assert (await call(other, "say_hello", name="Ann"))["output"] == "ANN"
        assert (await admin.put("/v1/tools/second", json=tool("second"))).status_code == 201

        assert (await admin.delete("/v1/tools/say_hello")).status_code == 204
        assert problem(await admin.delete("/v1/tools/say_hello")) == (404, "ToolNotFound")
        assert problem(await other.get("/v1/tools/say_hello")) == (404, "ToolNotFound")
        assert (await other.get("/v1/tools")).headers["etag"] != etag
        history = (await admin.get("/v1/tools/say_hello/history")).json()["items"]
        assert [(one["caller"], one["tool"] and one["tool"]["spec"]["run"]) for one in history] == [
            ("admin", None),
            (
                "admin",
                louder["spec"]["run"] | {"function": {"code": louder["spec"]["run"]["function"]["code"]}},
            ),
            ("admin", made.json()["spec"]["run"]),
        ]


async def test_S6_who_may_not_registers_nothing(gateway: Gateway) -> None:
    for role in (Role.VIEWER, Role.RUNNER, Role.AUDITOR):
        async with await gateway.caller(role, role) as client:
            for request in (
                client.post("/v1/tools", json=tool("mine")),
                client.put("/v1/tools/mine", json=tool("mine")),
                client.delete("/v1/tools/mine"),
                client.get("/v1/tools/mine/history"),
            ):
                assert problem(await request) == (403, "Forbidden")


@pytest.mark.parametrize("name", ["calculator", "read_file", "read-file", "shell"])
async def test_S6_what_ships_with_corral_is_replaced_by_nobody(gateway: Gateway, name: str) -> None:
    async with await gateway.caller("admin", Role.ADMIN) as admin:
        before = (await admin.get(f"/v1/tools/{name}")).json()
        assert problem(await admin.post("/v1/tools", json=tool(name))) == (409, "ToolBuiltIn")
        assert problem(await admin.put(f"/v1/tools/{name}", json=tool(name))) == (409, "ToolBuiltIn")
        assert problem(await admin.delete(f"/v1/tools/{name}")) == (409, "ToolBuiltIn")
        assert (await admin.get(f"/v1/tools/{name}")).json() == before


@pytest.mark.parametrize(
    ("body", "reason", "path"),
    [
        ({}, "InvalidSpec", "apiVersion"),
        (tool("UPPER"), "InvalidSpec", "metadata.name"),
        (tool("mine", inputSchema={"type": "array"}), "InvalidSpec", "spec.inputSchema.type"),
        (tool("mine", inputSchema={"type": "object", "properties": 7}), "InvalidSpec", "spec.inputSchema"),
        (tool("mine", run={}), "InvalidSpec", "spec.run"),
        (tool("mine", permissions=["all"]), "InvalidSpec", "spec.permissions[0]"),
        (
            tool("mine", run={"command": {"argv": ["x"], "image": "busybox"}}),
            "Unsupported",
            "spec.run.command.image",
        ),
        ({**tool("mine"), "kind": "AgentTask"}, "InvalidSpec", "spec"),
        ({**tool("mine"), "metadata": {}}, "InvalidSpec", "metadata.name"),
    ],
)
async def test_S6_a_tool_that_is_wrong_is_refused_with_its_fields(
    gateway: Gateway, body: Any, reason: str, path: str
) -> None:
    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        for answer in (
            await admin.post("/v1/tools", json=body),
            await admin.put("/v1/tools/mine", json=body),
        ):
            assert problem(answer) == (422, reason)
            assert any(one["path"].startswith(path) for one in answer.json()["problems"]), answer.text
        assert problem(await admin.put("/v1/tools/another", json=tool("mine"))) == (422, "InvalidSpec")
        assert problem(await admin.get("/v1/tools/mine")) == (404, "ToolNotFound")


async def test_S6_tools_outlive_the_gateway_and_are_known_to_others_on_the_same_database(
    tmp_path: Path,
) -> None:
    async with gateway_in(tmp_path) as one, gateway_in(tmp_path) as two:  # noqa: SIM117 - a client is of one of the two
        async with await one.caller("admin", Role.TOOL_ADMIN) as admin, await two.caller("other") as other:
            await admin.post("/v1/tools", json=tool("mine"))
            async with asyncio.timeout(60):
                while "mine" not in (await other.get("/tools/list")).json():
                    await asyncio.sleep(0.05)
            assert (await call(other, "mine"))["output"] == "Hello, you"
            await admin.delete("/v1/tools/mine")
            await admin.post("/v1/tools", json=tool("kept"))
            async with asyncio.timeout(60):
                while "mine" in (await other.get("/tools/list")).json():
                    await asyncio.sleep(0.05)
    async with gateway_in(tmp_path) as again, await again.caller("other") as other:
        assert (await call(other, "kept"))["output"] == "Hello, you"


async def test_S6_of_many_at_once_one_registers_a_name(gateway: Gateway) -> None:
    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        answers = await asyncio.gather(*(admin.post("/v1/tools", json=tool("mine")) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
        answers = await asyncio.gather(*(admin.put("/v1/tools/mine", json=tool("mine")) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert len((await admin.get("/v1/tools/mine/history")).json()["items"]) == 9


#: A regular expression that backtracks for ever over what it does not match.
_HOSTILE = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^(a+)+$"}}}


async def test_S6_a_hostile_schema_ends_its_own_call_and_holds_up_nobody(tmp_path: Path) -> None:
    often: dict[str, Any] = {
        "CORRAL_RATE_LIMIT_CALLER": "1000000/minute",
        "CORRAL_RATE_LIMIT_GLOBAL": "1000000/minute",
    }
    async with (
        gateway_in(tmp_path, **often) as gateway,
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
        await gateway.caller("other") as other,
    ):
        await admin.post("/v1/tools", json=tool("hostile", inputSchema=_HOSTILE))
        request = {"tool_name": "hostile", "parameters": {"name": "a" * 60 + "!"}}
        hostile = asyncio.create_task(admin.post("/tools/execute", json=request))
        # The loop goes on: others are answered while it is busy, which without a process of its own would be never.
        answered = 0
        while not hostile.done():
            assert (await other.get("/v1/tools/calculator")).status_code == 200
            answered += 1
        assert answered > 3
        assert problem(await hostile) == (400, "InvalidArguments")
        assert (await call(other, "hostile", name="aaa"))["output"] == "Hello, aaa"
        wrong = {"tool_name": "hostile", "parameters": {"name": 7}}
        assert problem(await other.post("/tools/execute", json=wrong)) == (400, "InvalidArguments")
