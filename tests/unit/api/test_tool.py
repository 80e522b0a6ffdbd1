"""Tool: what is accepted and what is refused."""

from typing import Any

import pytest

from corral.api import (
    ManifestError,
    PermissionLevel,
    Tool,
    expand_permissions,
    load_manifests,
    parse_resource,
)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def resource(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "x"},
        "spec": {"description": "A tool.", "run": {"builtin": "x"}, **spec},
    }


def problems(**spec: Any) -> dict[str, str]:
    with pytest.raises(ManifestError) as caught:
        parse_resource(resource(**spec))
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_tool_comes_back_from_the_wire_as_it_went() -> None:
    wire = resource(
        category="text",
        tags=["a", "b-c"],
        permissions=["read", "execute"],
        cacheTTL="5m",
        inputSchema={"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
        outputSchema={"type": "integer"},
        limits={"default": {"memory": "1Gi"}, "maximum": {"memory": "2Gi"}},
        examples=[
            {"name": "one", "arguments": {"n": 1}, "resultContains": {"x": None}, "reason": "ToolError"}
        ],
        run={"command": {"argv": ["seq", "$(arguments.n)"], "resultFormat": "JSON"}},
    )
    tool = parse_resource(wire)
    assert isinstance(tool, Tool)
    assert tool.to_wire() == wire
    assert tool.spec.permissions == (PermissionLevel.READ, PermissionLevel.EXECUTE)


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"run": {}}, "spec.run", "exactly one of builtin, function and command is needed"),
        (
            {"run": {"builtin": "x", "function": {"code": ""}}},
            "spec.run",
            "exactly one of builtin, function and command is needed; found builtin and function",
        ),
        ({"run": {"command": {"argv": []}}}, "spec.run.command.argv", "at least one entry"),
        (
            {"limits": {"default": {"memory": "2Gi"}, "maximum": {"memory": "1Gi"}}},
            "spec.limits.default.memory",
            "the default of memory is above the tool's own maximum",
        ),
        ({"inputSchema": {}}, "spec.inputSchema.type", 'the type of arguments is always "object"'),
        ({"inputSchema": {"type": "list"}}, "spec.inputSchema.type", 'is always "object"'),
        (
            {"inputSchema": {"type": "object", "properties": {"a": {"minimum": "1"}}}},
            "spec.inputSchema.properties.a.minimum",
            "no valid JSON Schema: '1' is not of type 'number'",
        ),
        (
            {"inputSchema": {"type": "object", "$schema": "http://json-schema.org/draft-04/schema#"}},
            'spec.inputSchema["$schema"]',
            "only JSON Schema Draft 2020-12",
        ),
        (
            {"inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://10.0.0.1/x"}}}},
            'spec.inputSchema.properties.a["$ref"]',
            "only references inside of the schema",
        ),
        (
            {"inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}}},
            'spec.inputSchema.properties.a["$ref"]',
            "it has no such part",
        ),
        (
            {"inputSchema": {"type": "object", "properties": {"a": {"pattern": "a" * 1001}}}},
            "spec.inputSchema.properties.a.pattern",
            "more than 1000 characters",
        ),
        (
            {"inputSchema": {"type": "object", "description": "x" * (33 << 10)}},
            "spec.inputSchema",
            "the schema is larger than 32 KiB",
        ),
        (
            {"inputSchema": {"type": "object", "properties": {"default": {"pattern": "("}}}},
            "spec.inputSchema.properties.default.pattern",
            "no regular expression",
        ),
        (
            {"inputSchema": {"type": "object", "properties": {"a": {"pattern": "("}}}},
            "spec.inputSchema.properties.a.pattern",
            "no regular expression",
        ),
        ({"outputSchema": {"type": 1}}, "spec.outputSchema.type", "no valid JSON Schema"),
        ({"permissions": ["root"]}, "spec.permissions[0]", "expected one of 'read', 'write', 'execute'"),
        ({"tags": ["Two Words"]}, "spec.tags[0]", "expected a lower-case word"),
        ({"rateLimit": {}}, "spec.rateLimit.requestsPerMinute", "is missing"),
        ({"cacheTTL": "0s"}, "spec.cacheTTL", "expected a duration"),
        (
            {
                "inputSchema": {"type": "object", "properties": {"n": {}}, "additionalProperties": False},
                "run": {"command": {"argv": ["seq", "$(arguments.m)"]}},
            },
            "spec.run.command.argv[1]",
            "$(arguments.m): inputSchema has no such property; it has n",
        ),
        (
            {"run": {"command": {"argv": ["x"], "stdin": "$(arguments)"}}},
            "spec.run.command.stdin",
            "expected $(arguments.NAME)",
        ),
    ],
)
def test_a_wrong_tool_is_refused_with_the_fields_path(spec: dict[str, Any], path: str, message: str) -> None:
    found = problems(**spec)
    assert list(found) == [path]
    assert message in found[path]


def test_references_and_patterns_that_work_are_accepted() -> None:
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}, "pattern": {"type": "string", "pattern": "^a+$"}},
        "$defs": {"node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}},
        "examples": [{"$ref": "elsewhere"}],
    }
    tool = parse_resource(resource(inputSchema=schema))
    assert isinstance(tool, Tool)


def test_the_schemas_of_shipped_manifests_are_not_checked_again() -> None:
    text = """
apiVersion: corral.dev/v1alpha1
kind: Tool
metadata: {name: read_file}
spec: {description: x, inputSchema: {type: object, properties: {a: {type: 7}}}, run: {builtin: read_file}}
"""
    assert load_manifests(text, trusted=True)[0].kind == "Tool"
    with pytest.raises(ManifestError, match="no valid JSON Schema"):
        load_manifests(text)


def test_C4_admin_includes_all_other_permissions() -> None:
    assert expand_permissions([PermissionLevel.ADMIN]) == set(PermissionLevel)
    assert expand_permissions([PermissionLevel.READ]) == {PermissionLevel.READ}
    assert [level.value for level in PermissionLevel] == [
        "read",
        "write",
        "execute",
        "network",
        "system",
        "admin",
    ]


def test_a_schema_of_the_greatest_depth_is_checked_to_the_end() -> None:
    parse_resource(resource(inputSchema={"type": "object", "properties": {"a": nested(61)}}))
    (path,) = problems(inputSchema={"type": "object", "properties": {"a": {"not": nested(60) | {"type": 7}}}})
    assert path == "spec.inputSchema.properties.a.not.type"
