"""The generated CustomResourceDefinitions say what the models say."""

from collections.abc import Iterator
from typing import Any

import pytest

from corral.api import AgentTask, SandboxPool, Tool
from corral.api.crd import RESOURCES, custom_resource_definition, openapi_schema
from corral.api.model import ApiModel

MODELS: dict[str, type[AgentTask | Tool | SandboxPool]] = {
    "AgentTask": AgentTask,
    "Tool": Tool,
    "SandboxPool": SandboxPool,
}
SCHEMAS = {kind: openapi_schema(model) for kind, model in MODELS.items()}


def all_models(model: type[ApiModel] = ApiModel) -> Iterator[type[ApiModel]]:
    for child in model.__subclasses__():
        if child.__module__.startswith("corral."):
            yield child
            yield from all_models(child)


@pytest.mark.parametrize("model", [*all_models()], ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[ApiModel]) -> None:
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_user_writes_is_bounded_so_that_rules_over_it_are(kind: str) -> None:
    for path, node in nodes(SCHEMAS[kind]["properties"]["spec"], "spec"):
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path


@pytest.mark.parametrize("kind", MODELS)
def test_M1_nothing_in_a_schema_is_beyond_what_is_structural(kind: str) -> None:
    for path, node in nodes(SCHEMAS[kind]):
        assert not {"$ref", "oneOf", "allOf", "title", "patternProperties", "const"} & set(node), path
        assert "type" in node or any(key.startswith("x-kubernetes-") for key in node), path
        assert ("anyOf" in node) == ("x-kubernetes-int-or-string" in node), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_M1_a_task_shows_tool_phase_reason_and_age() -> None:
    definition = custom_resource_definition(RESOURCES[0])
    spec, version = definition["spec"], definition["spec"]["versions"][0]
    assert definition["metadata"]["name"] == "agenttasks.corral.dev"
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["at"], ["all"])
    assert spec["scope"] == "Namespaced"
    assert version["subresources"] == {"status": {}}
    assert [column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column] == [
        "Tool",
        "Phase",
        "Reason",
        "Age",
    ]
    assert [column["name"] for column in version["additionalPrinterColumns"] if "priority" in column] == [
        "Message"
    ]


def test_M4_a_pool_can_be_scaled() -> None:
    version = custom_resource_definition(RESOURCES[2])["spec"]["versions"][0]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    assert {"replicas", "selector"} <= set(properties["status"]["properties"])
    assert "replicas" in properties["spec"]["properties"]


@pytest.mark.parametrize("kind", MODELS)
def test_every_column_shows_a_field_that_there_is(kind: str) -> None:
    resource = next(resource for resource in RESOURCES if resource.model is MODELS[kind])
    for column in resource.columns:
        node = SCHEMAS[kind]
        for part in column.json_path.removeprefix(".").split("."):
            if part != "creationTimestamp":
                node = node["properties"][part]


def test_every_field_of_a_spec_but_cancel_is_immutable() -> None:
    rules = [
        rule["rule"]
        for rule in SCHEMAS["AgentTask"]["properties"]["spec"]["x-kubernetes-validations"]
        if "oldSelf" in rule["rule"]
    ]
    fields = set(SCHEMAS["AgentTask"]["properties"]["spec"]["properties"]) - {"cancel"}
    assert len(rules) == len(fields)
    assert all(any(f"self.{field} == oldSelf.{field})" in rule for rule in rules) for field in fields)
