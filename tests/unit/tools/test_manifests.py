"""Every tool's manifest: complete, valid, and true to what the tool does."""

import base64
import contextlib
import importlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import corral_tools
from corral.api import Tool
from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure

PACKAGE = Path(corral_tools.__file__).parent
MANIFESTS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(PACKAGE.glob("*.yaml"))}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{example['name']}")
    for name, manifest in MANIFESTS.items()
    for example in manifest["spec"]["examples"]
]
PERMISSIONS = {"read", "write", "execute", "network", "system", "admin"}
WRITERS = {"archive", "edit_file", "pdf_report", "plot", "python", "shell", "write_file"}
EXECUTORS = {"python", "shell"}


def test_the_tools_are_those_that_were_promised() -> None:
    assert [*MANIFESTS] == [
        "archive", "calculator", "csv_query", "diff", "edit_file", "environment", "health_check",
        "json_query", "list_dir", "pdf_report", "pip_list", "plot", "python", "read_file", "search_files",
        "shell", "text_stats", "write_file",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_A6_a_manifest_has_every_field(name: str) -> None:
    manifest = MANIFESTS[name]
    assert {key: manifest[key] for key in ("apiVersion", "kind", "metadata")} == {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": name},
    }
    spec = manifest["spec"]
    wanted = {
        "description", "category", "tags", "version", "author", "permissions", "dangerous", "idempotent",
        "estimatedDuration", "limits", "inputSchema", "outputSchema", "run", "examples",
    }  # fmt: skip
    assert wanted - set(spec) == set()
    assert set(spec) - wanted <= {"cacheTTL"}
    assert spec["author"] == "Corral"
    assert 1 <= len(re.findall(r"[.](?= |$)", spec["description"])) <= 4
    assert len(spec["tags"]) >= 3
    assert set(spec["limits"]) == {"default", "maximum"}
    assert {"timeout", "memory"} <= set(spec["limits"]["default"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_A6_a_manifest_is_a_tool_resource(name: str) -> None:
    assert Tool.from_wire(MANIFESTS[name]).name == name


@pytest.mark.parametrize("name", MANIFESTS)
def test_A7_a_tool_asks_for_no_more_than_it_needs(name: str) -> None:
    spec = MANIFESTS[name]["spec"]
    assert set(spec["permissions"]) <= PERMISSIONS
    assert ("write" in spec["permissions"]) == (name in WRITERS)
    assert ("execute" in spec["permissions"]) == (name in EXECUTORS) == spec["dangerous"]
    assert "network" not in spec["permissions"]
    # A result may only be used again where it depends on nothing but the arguments.
    assert ("cacheTTL" in spec) == (name == "calculator")
    assert spec["idempotent"] or "cacheTTL" not in spec


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_builtin_has_its_module_and_a_command_has_none(name: str) -> None:
    run = MANIFESTS[name]["spec"]["run"]
    if "builtin" in run:
        assert run == {"builtin": name}
        assert callable(importlib.import_module(f"corral_tools.{name}").run)
    else:
        assert not (PACKAGE / f"{name}.py").exists()


def subschemas(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) else []
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return found + [below for part in parts for below in subschemas(part)]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schemas_are_valid_closed_and_described(name: str) -> None:
    spec = MANIFESTS[name]["spec"]
    for schema in (spec["inputSchema"], spec["outputSchema"]):
        Draft202012Validator.check_schema(schema)
    assert spec["inputSchema"]["type"] == "object"
    for schema in subschemas(spec["inputSchema"]):
        if schema.get("type") == "object" and "properties" in schema:
            assert schema["additionalProperties"] is False
            assert set(schema.get("required", ())) <= set(schema["properties"])
    for argument, schema in spec["inputSchema"]["properties"].items():
        assert schema.get("description"), argument
        if "default" in schema:
            Draft202012Validator(schema).validate(schema["default"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_input_schema_is_one_that_models_interfaces_take(name: str) -> None:
    """Anthropic's and OpenAI's tool interfaces refuse these keywords at the top of an input schema."""
    assert not {"oneOf", "anyOf", "allOf", "not", "if"} & set(MANIFESTS[name]["spec"]["inputSchema"])


def contains(value: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            name in value and contains(value[name], below) for name, below in part.items()
        )
    return bool(value == part)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_what_its_schemas_say(name: str, example: dict[str, Any]) -> None:
    spec = MANIFESTS[name]["spec"]
    is_valid = Draft202012Validator(spec["inputSchema"]).is_valid(example["arguments"])
    assert is_valid or example.get("reason") == "InvalidArguments"
    if "result" in example:
        Draft202012Validator(spec["outputSchema"]).validate(example["result"])
    known = spec["outputSchema"].get("properties")
    if known is not None:
        assert set(example.get("resultContains", ())) <= set(known)


def outcome(name: str, arguments: dict[str, Any], context: ToolContext) -> tuple[str, Any]:
    """The reason the runner would give, and the result."""
    try:
        return "Completed", importlib.import_module(f"corral_tools.{name}").run(arguments, context)
    except InvalidArgument:
        return "InvalidArguments", None
    except PermissionRefused:
        return "PermissionDenied", None
    except (ToolFailure, SystemExit):
        return "ToolError", None


@pytest.mark.parametrize(
    ("name", "example"),
    [param for param in EXAMPLES if "builtin" in MANIFESTS[str(param.values[0])]["spec"]["run"]],
)
def test_an_example_does_what_it_says(
    name: str, example: dict[str, Any], workspace: Path, context: ToolContext
) -> None:
    spec = MANIFESTS[name]["spec"]
    for file in example.get("files", ()):
        path = workspace / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            file["content"].encode() if "content" in file else base64.b64decode(file["contentBase64"])
        )
    if not Draft202012Validator(spec["inputSchema"]).is_valid(example["arguments"]):
        return
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()):
        reason, result = outcome(name, example["arguments"], context)
    assert reason == example.get("reason", "Completed")
    assert result == example.get("result", result)
    assert contains(result, example.get("resultContains", {})) or "resultContains" not in example
    assert output.getvalue() == example.get("stdout", output.getvalue())
    if reason == "Completed":
        Draft202012Validator(spec["outputSchema"]).validate(result)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_examples_show_success_and_failure(name: str) -> None:
    reasons = {example.get("reason", "Completed") for example in MANIFESTS[name]["spec"]["examples"]}
    assert "Completed" in reasons
    assert len(reasons) > 1 or name in {"environment", "pip_list"}
