"""``/docs`` and ``/redoc``: whole without any other server, with examples that run."""

import re
from typing import Any

import jsonschema
import pytest

from corral.api import AgentTask
from corral_gateway.identity.roles import Role
from integration.gateway.running import CALCULATE, Gateway


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_A10_a_page_needs_no_other_server(gateway: Gateway, page: str) -> None:
    async with gateway.http() as client:
        text = (await client.get(page)).text
        parts = re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
        assert len(parts) >= 2
        for part in parts:
            assert part.startswith("/"), part
            assert (await client.get(part)).status_code == 200
        assert "/openapi.json" in text


async def test_A10_every_route_but_health_says_that_it_needs_a_credential(gateway: Gateway) -> None:
    async with gateway.http() as client:
        schema = (await client.get("/openapi.json")).json()
        assert set(schema["components"]["securitySchemes"]) == {"key", "bearer"}
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                assert ("security" in operation) is (path not in {"/health", "/ready"}), path


async def test_A10_every_parameter_says_what_it_is(gateway: Gateway) -> None:
    async with gateway.http() as client:
        schema = (await client.get("/openapi.json")).json()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (path, parameter["name"])


async def test_A10_every_route_has_a_name_that_a_generated_client_can_call(gateway: Gateway) -> None:
    async with gateway.http() as client:
        schema = (await client.get("/openapi.json")).json()
    names = [one["operationId"] for operations in schema["paths"].values() for one in operations.values()]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name)] == []


async def test_A10_answers_are_what_the_document_says_of_them(gateway: Gateway) -> None:
    async with await gateway.caller("admin", Role.ADMIN) as client:
        document = (await client.get("/openapi.json")).json()
        made = await client.post("/v1/tasks", params={"wait": "30s"}, json=CALCULATE)
        listed, tools = await client.get("/v1/tasks"), await client.get("/v1/tools")
    ended = document["paths"]["/v1/tasks"]["post"]["responses"]["201"]["content"]["application/json"]
    for schema, value in (
        ("AgentTask", made.json()),
        ("AgentTask", ended["example"]),
        ("TaskList", listed.json()),
        ("ToolList", tools.json()),
    ):
        _validator(document, schema).validate(value)
    assert AgentTask.model_validate(ended["example"]).result == 42
    with pytest.raises(jsonschema.ValidationError):
        _validator(document, "AgentTask").validate(made.json() | {"spec": {"tool": 1}})


def _validator(document: Any, schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**document, "$ref": f"#/components/schemas/{schema}"})


def _examples(schema: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation["requestBody"]["content"]["application/json"]["example"])
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


async def test_A10_the_examples_of_the_pages_run(gateway: Gateway) -> None:
    async with await gateway.caller("admin", Role.ADMIN) as client:
        examples = _examples((await client.get("/openapi.json")).json())
        assert {path for _, path, _ in examples} >= {"/v1/tasks", "/tools/execute"}
        for method, path, example in examples:
            named = path.format(name=example.get("metadata", {}).get("name"))
            answer = await client.request(method, named, json=example)
            assert answer.is_success, (path, answer.text)
