"""Whatever the models accept, the generated schemas accept."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from corral.api import RETRY_SAFE_REASONS, PermissionLevel, Reason, parse_resource
from corral.api.crd import RESOURCES, openapi_schema

SCHEMAS = {resource.model.__name__: openapi_schema(resource.model) for resource in RESOURCES}
#: OpenAPI 3.0's exclusiveMinimum is a boolean, as in Draft 4.
VALIDATORS = {kind: Draft4Validator(schema) for kind, schema in SCHEMAS.items()}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "corral.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


names = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(text.filter(lambda key: "$(" not in key), json_values, max_size=3).filter(
    lambda value: "$(" not in json.dumps(value)
)
bytes_up_to_64_mebi = st.integers(1, 64 << 20) | st.sampled_from(
    ["1", "64Mi", "1.5Mi", "1e6", ".5Ki", "3.M", "1k"]
)
cores = st.integers(1, 64) | st.sampled_from(["64", "1.5", "500m", "0.001", "64000m"])
durations = st.sampled_from(["1s", "24h", "1h30m", "1.5s", "500ms", "1ns", "3µs", ".5m", "1440m"])
env_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
paths = st.lists(names | st.sampled_from([".", "...", "..a", "a b", "ä"]), min_size=1, max_size=3).map(
    "/".join
)

limits = st.fixed_dictionaries(
    {},
    optional={
        "cpu": cores,
        "cpuTime": durations,
        "memory": bytes_up_to_64_mebi,
        "processes": st.integers(1, 4096),
        "disk": bytes_up_to_64_mebi,
        "fileSize": bytes_up_to_64_mebi,
        "openFiles": st.integers(8, 65536),
        "output": bytes_up_to_64_mebi,
        "timeout": durations,
        "idleTimeout": durations,
    },
)
domains = st.sampled_from(["example.com", "*.example.com", "a-b.c1.example"])
networks: st.SearchStrategy[dict[str, Any]] = (
    st.just({})
    | st.just({"mode": "none"})
    | st.fixed_dictionaries(
        {"mode": st.just("allowlist"), "allowedDomains": st.lists(domains, min_size=1, max_size=3)},
        optional={"maxRequests": st.integers(1, 1_000_000)},
    )
)


def files(size: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    content = st.fixed_dictionaries({"content": text}) | st.fixed_dictionaries(
        {"contentBase64": st.sampled_from(["", "aGk=", "AAAA"])}
    )
    file = st.tuples(content, st.sampled_from([{}, {"mode": "0600"}, {"mode": "755"}])).map(
        lambda parts: {**parts[0], **parts[1]}
    )
    return st.dictionaries(names, file, max_size=size).map(
        lambda by_path: [{"path": path, **entry} for path, entry in by_path.items()]
    )


envs = st.dictionaries(env_names, text, max_size=2).map(
    lambda values: [{"name": name, "value": value} for name, value in values.items()]
)
common = {
    "limits": limits,
    "network": networks,
    "files": files(2),
    "workspace": st.fixed_dictionaries(
        {}, optional={"hostPath": st.just("/tmp/x"), "readOnly": st.booleans()}
    ),
    "allowedPaths": st.lists(paths, min_size=1, max_size=2),
    "outputs": st.lists(paths, max_size=2),
    "env": envs,
    "runtimeClassName": names,
    "idempotencyKey": st.from_regex(r"[!-~]{1,20}", fullmatch=True),
    "priority": st.integers(-1000, 1000),
    "retry": st.fixed_dictionaries(
        {},
        optional={
            "maxAttempts": st.integers(1, 10),
            "reasons": st.lists(st.sampled_from([*RETRY_SAFE_REASONS]).map(str), max_size=5),
            "backoff": durations,
        },
    ),
    "activeDeadlineSeconds": st.integers(1, 604800),
    "ttlSecondsAfterFinished": st.integers(0, 31536000),
    "cancel": st.booleans(),
}
tool_names = names | st.sampled_from(["read_file", "a.b"])
steps = st.lists(names, min_size=1, max_size=4, unique=True).flatmap(
    lambda step_names: st.tuples(
        *(
            st.fixed_dictionaries(
                {"name": st.just(name), "tool": tool_names},
                optional={
                    "arguments": objects,
                    "limits": limits,
                    "onFailure": st.sampled_from(["Stop", "Continue"]),
                    "dependsOn": st.lists(st.sampled_from(step_names[:index]), unique=True)
                    if index
                    else st.just([]),
                },
            )
            for index, name in enumerate(step_names)
        )
    ).map(list)
)
specs = (
    st.fixed_dictionaries({"tool": tool_names}, optional={"arguments": objects, **common})
    | st.fixed_dictionaries(
        {"steps": steps},
        optional={
            **common,
            "strategy": st.sampled_from(["Sequential", "Parallel"]),
            "maxDepth": st.integers(8, 64),
        },
    )
    | st.fixed_dictionaries(
        {
            "agent": st.fixed_dictionaries(
                {"prompt": text.filter(bool)},
                optional={
                    "model": st.just("m"),
                    "maxIterations": st.integers(1, 1000),
                    "tools": st.lists(tool_names, max_size=3),
                },
            )
        },
        optional=common,
    )
)
schemas = st.sampled_from(
    [{"type": "object"}, {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}]
)
runs = (
    st.fixed_dictionaries({"builtin": tool_names})
    | st.fixed_dictionaries(
        {
            "function": st.fixed_dictionaries(
                {"code": text},
                optional={"entrypoint": st.just("run"), "allowedImports": st.just(["json", "os.path"])},
            )
        }
    )
    | st.fixed_dictionaries(
        {
            "command": st.fixed_dictionaries(
                {"argv": st.lists(text.filter(lambda word: "$(" not in word), min_size=1, max_size=3)},
                optional={
                    "stdin": st.just("x"),
                    "image": st.just("r/i:t"),
                    "resultFormat": st.sampled_from(["Text", "JSON"]),
                },
            )
        }
    )
)
examples = st.fixed_dictionaries(
    {"name": names},
    optional={
        "description": text,
        "arguments": objects,
        "files": files(1),
        "env": envs,
        "result": json_values,
        "resultContains": objects,
        "stdout": text,
        "reason": st.sampled_from([*Reason]).map(str),
    },
)
tools = st.fixed_dictionaries(
    {"description": text.filter(bool), "run": runs},
    optional={
        "category": names,
        "tags": st.lists(names, max_size=3),
        "version": st.sampled_from(["1.0.0", "2026.1-rc.1"]),
        "author": text,
        "inputSchema": schemas,
        "outputSchema": schemas,
        "permissions": st.lists(st.sampled_from([*PermissionLevel]).map(str), max_size=6),
        "dangerous": st.booleans(),
        "idempotent": st.booleans(),
        "limits": st.fixed_dictionaries({}, optional={"maximum": limits}),
        "network": networks,
        "rateLimit": st.fixed_dictionaries({"requestsPerMinute": st.integers(1, 1_000_000)}),
        "cacheTTL": durations,
        "estimatedDuration": durations,
        "examples": st.lists(examples, max_size=2),
    },
)
pools = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 10000),
        "image": st.just("r/i:t"),
        "resources": st.fixed_dictionaries({}, optional={"cpu": cores, "memory": bytes_up_to_64_mebi}),
        "runtimeClassName": names,
        "network": st.sampled_from(["none", "allowlist"]),
        "refill": st.fixed_dictionaries(
            {},
            optional={
                "perSecond": st.floats(0.001, 1000) | st.integers(1, 1000),
                "burst": st.integers(1, 1000),
            },
        ),
        "whenEmpty": st.sampled_from(["Queue", "Cold", "Refuse"]),
    },
)


resources = (
    specs.map(lambda spec: resource("AgentTask", spec))
    | tools.map(lambda spec: resource("Tool", spec))
    | pools.map(lambda spec: resource("SandboxPool", spec))
)


@settings(max_examples=300, deadline=None)
@given(resources)
def test_M1_whatever_the_models_accept_the_schema_accepts(wire: dict[str, Any]) -> None:
    parsed = parse_resource(wire)
    errors = [error.message for error in VALIDATORS[wire["kind"]].iter_errors(wire)]
    assert errors == []
    again = parsed.to_wire()
    assert [error.message for error in VALIDATORS[wire["kind"]].iter_errors(again)] == []
    assert parse_resource(again) == parsed
