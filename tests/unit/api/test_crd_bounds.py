"""A bound that the models set is set by the generated schemas, and the other way round."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft4Validator

from corral.api import ManifestError, parse_resource
from corral.api.crd import RESOURCES, openapi_schema

SCHEMAS = {resource.model.__name__: openapi_schema(resource.model) for resource in RESOURCES}
#: OpenAPI 3.0's exclusiveMinimum is a boolean, as in Draft 4.
VALIDATORS = {kind: Draft4Validator(schema) for kind, schema in SCHEMAS.items()}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "corral.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


FULL: dict[str, dict[str, Any]] = {
    "AgentTask": {
        "tool": "t",
        "arguments": {"a": 1},
        "strategy": "Parallel",
        "maxDepth": 3,
        "limits": {
            "cpu": 1,
            "cpuTime": "1s",
            "memory": 5,
            "processes": 9,
            "disk": 5,
            "fileSize": 5,
            "openFiles": 9,
            "output": 5,
            "timeout": "1s",
            "idleTimeout": "1s",
        },
        "network": {"mode": "allowlist", "allowedDomains": ["example.com"], "maxRequests": 3},
        "files": [{"path": "a", "content": "x", "mode": "0644"}, {"path": "b", "contentBase64": "aGk="}],
        "workspace": {"hostPath": "/tmp", "readOnly": True},
        "allowedPaths": ["a"],
        "outputs": ["*.csv"],
        "env": [{"name": "A", "value": "x"}],
        "secretRefs": [{"name": "s", "key": "k", "env": "B"}],
        "runtimeClassName": "gvisor",
        "idempotencyKey": "k",
        "priority": 1,
        "retry": {"maxAttempts": 2, "reasons": ["NodeLost"], "backoff": "1s"},
        "activeDeadlineSeconds": 3,
        "ttlSecondsAfterFinished": 3,
        "cancel": True,
    },
    "Tool": {
        "description": "x",
        "category": "c",
        "tags": ["t"],
        "version": "1",
        "author": "a",
        "inputSchema": {"type": "object"},
        "outputSchema": {},
        "permissions": ["read"],
        "dangerous": True,
        "idempotent": True,
        "limits": {"default": {"memory": 1}, "maximum": {"memory": 1}},
        "network": {},
        "rateLimit": {"requestsPerMinute": 3},
        "cacheTTL": "1s",
        "estimatedDuration": "1s",
        "examples": [
            {
                "name": "e",
                "description": "d",
                "arguments": {},
                "files": [{"path": "a", "content": ""}],
                "env": [{"name": "A"}],
                "resultContains": {},
                "stdout": "x",
                "reason": "ToolError",
            }
        ],
        "run": {"command": {"argv": ["x"], "stdin": "x", "image": "i", "resultFormat": "Text"}},
    },
    "SandboxPool": {
        "replicas": 3,
        "image": "i",
        "resources": {"cpu": 1, "memory": 1},
        "runtimeClassName": "r",
        "network": "none",
        "refill": {"perSecond": 0.5, "burst": 3},
        "whenEmpty": "Queue",
    },
}
STEPS = {
    "steps": [
        {"name": "a", "tool": "t"},
        {
            "name": "b",
            "tool": "t",
            "arguments": {},
            "limits": {"cpu": 1},
            "onFailure": "Stop",
            "dependsOn": ["a"],
        },
    ]
}
AGENT = {"agent": {"prompt": "x", "model": "m", "maxIterations": 3, "tools": ["t"]}}
FUNCTION = {
    "description": "x",
    "run": {"function": {"code": "x", "entrypoint": "main", "allowedImports": ["json"]}},
}
FULL_RESOURCES = [
    *(resource(kind, spec) for kind, spec in FULL.items()),
    resource("AgentTask", STEPS),
    resource("AgentTask", AGENT),
    resource("Tool", FUNCTION),
    resource("Tool", {"description": "x", "run": {"builtin": "t"}}),
]
#: Of another type than the one asked for, and in no enumeration.
WRONG_TYPES = {
    "string": (7, True, [], {}),
    "integer": ("7", 1.5, True, []),
    "number": ("7", True, []),
    "boolean": ("true", 1, []),
    "array": ({}, "x", 1),
    "object": ([], "x", 1),
}


def outside(node: dict[str, Any], value: Any) -> Iterator[Any]:
    """Yield values just beyond each bound that a node of the schema sets."""
    if node.get("x-kubernetes-int-or-string"):
        yield from (0, -1, True, 1.5, [], "", "0", "0Mi", "-1", "lots", "1 Mi", "1Mi" + "0" * 20)
        if "maximum" in node:
            yield node["maximum"] + 1
        return
    yield from WRONG_TYPES.get(node.get("type", ""), ())
    if "enum" in node:
        yield "no such choice"
    if "minimum" in node:
        yield node["minimum"] if node.get("exclusiveMinimum") else node["minimum"] - 1
    if "maximum" in node:
        yield node["maximum"] + 1
    if "minLength" in node:
        yield ""
    if "maxLength" in node:
        yield (value if isinstance(value, str) and value else "a") * (node["maxLength"] + 1)
    if "pattern" in node:
        yield from ("\0", " \0 ")
    if "maxItems" in node:
        yield value * (node["maxItems"] + 1)
    if node.get("minItems"):
        yield []


def inside(node: dict[str, Any]) -> Iterator[Any]:
    """Yield values that lie exactly on the bounds."""
    if "minimum" in node and not node.get("exclusiveMinimum"):
        yield node["minimum"]
    if "maximum" in node:
        yield node["maximum"]
    yield from node.get("enum", ())


def places(
    node: dict[str, Any], value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any], Any]]:
    yield path, node, value
    for name, part in node.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            yield from places(part, value[name], (*path, name))
    if "items" in node:
        for index, entry in enumerate(value):
            yield from places(node["items"], entry, (*path, index))


def changed(wire: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    result: Any = copy.deepcopy(wire)
    target = result
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    return dict(result)


def accepted(wire: dict[str, Any]) -> bool:
    try:
        parse_resource(wire)
    except ManifestError:
        return False
    return True


@pytest.mark.parametrize(
    "wire", FULL_RESOURCES, ids=lambda wire: wire["kind"] + "-" + next(iter(wire["spec"]))
)
def test_M1_a_bound_that_is_broken_fails_the_models_and_the_schema(wire: dict[str, Any]) -> None:
    assert accepted(wire)
    validator = VALIDATORS[wire["kind"]]
    tried = 0
    for path, node, value in places(SCHEMAS[wire["kind"]]["properties"]["spec"], wire["spec"], ("spec",)):
        for wrong in outside(node, value):
            bad = changed(wire, path, wrong)
            assert not validator.is_valid(bad), (path, wrong)
            assert not accepted(bad), (path, wrong)
            tried += 1
        for name in node.get("required", ()):
            without = copy.deepcopy(value)
            del without[name]
            bad = changed(wire, path, without)
            assert not validator.is_valid(bad), (path, name)
            assert not accepted(bad), (path, name)
            tried += 1
    assert tried > 10


#: Values on a bound that only fit together with another change.
DEPENDENT = {("spec", "network", "mode"), ("spec", "maxDepth")}


@pytest.mark.parametrize(
    "wire", FULL_RESOURCES, ids=lambda wire: wire["kind"] + "-" + next(iter(wire["spec"]))
)
def test_M1_a_value_on_the_bound_passes_the_models_and_the_schema(wire: dict[str, Any]) -> None:
    validator = VALIDATORS[wire["kind"]]
    for path, node, _ in places(SCHEMAS[wire["kind"]]["properties"]["spec"], wire["spec"], ("spec",)):
        for right in inside(node) if path not in DEPENDENT else ():
            good = changed(wire, path, right)
            assert validator.is_valid(good), (path, right)
            assert accepted(good) or path[-2:] == ("default", "memory"), (path, right)
