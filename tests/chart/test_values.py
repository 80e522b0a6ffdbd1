"""M10: the values are closed, documented, and what they say reaches the operator."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart.rendering import CHART, RenderError, of_kind, one, render
from corral.policy import Policy
from corral_operator.settings import Settings

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

#: Kubernetes' own objects, which the API server checks, and maps whose keys are the user's.
OPEN = {
    "global",
    *(
        f"{who}.{what}"
        for who in ("operator", "gateway")
        for what in (
            "podAnnotations",
            "podLabels",
            "nodeSelector",
            "tolerations[]",
            "affinity.nodeAffinity",
            "affinity.podAffinity",
            "affinity.podAntiAffinity",
        )
    ),
    "gateway.callerNamespaces",
    "gateway.jwt.issuers[]",
    "gateway.service.annotations",
    "gateway.ingress.annotations",
    "gateway.serviceAccount.annotations",
    "gateway.httpRoute.parentRefs[]",
    *(
        f"gateway.{peers}[].{selector}"
        for peers in ("clients", "egress[].to", "database.to", "rateLimits.to")
        for selector in ("namespaceSelector", "podSelector")
    ),
    "artifacts.to[].namespaceSelector",
    "artifacts.to[].podSelector",
    "serviceAccount.annotations",
    "metrics.from[].namespaceSelector",
    "metrics.from[].podSelector",
    "metrics.serviceMonitor.labels",
    "metrics.rules.labels",
    "metrics.dashboard.labels",
}


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return every part of the schema that describes an object."""
    if schema.get("type") == "object":
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from objects(part, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    whole = {
        ("sandbox", "overhead"),
        ("operator", "resources"),
        ("gateway", "resources"),
        ("metrics", "dashboard", "labels"),
    }
    if isinstance(values, dict) and values and path not in whole:
        for name, value in values.items():
            yield from leaves(value, (*path, name))
    else:
        yield path


def test_M10_the_schema_is_closed_everywhere() -> None:
    assert {path for path, part in objects(SCHEMA) if part.get("additionalProperties") is not False} == OPEN


def test_M10_every_value_is_in_the_schema_and_every_property_has_a_value() -> None:
    described = {
        path
        for path, part in objects(SCHEMA)
        for path in [f"{path}.{name}".lstrip(".") for name in part.get("properties", {})]
        if "[]" not in path and path != "global"
    }
    given = {".".join(path[:depth]) for path in leaves(DEFAULTS) for depth in range(1, len(path) + 1)}
    inside = (
        *(f"{who}.{what}." for who in ("operator", "gateway") for what in ("resources", "affinity")),
        "sandbox.overhead.",
    )
    assert {path for path in described ^ given if not path.startswith(inside)} == set()


def test_M10_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line
        for number, line in enumerate(lines)
        # A key that opens a group is explained by what is in it.
        if re.match(r"\s*[A-Za-z]+: *\S", line)
        and not lines[number - 1].lstrip().startswith("#")
        and not re.match(r"\s*(requests|limits|name|spec|replicas: 2)", line)
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"namespace": "a"}, "namespace"),
        ({"namespaces": "a"}, "namespaces"),
        ({"namespaces": ["*", "a"]}, "namespaces"),
        ({"namespaces": ["A_b"]}, "namespaces"),
        ({"namespaces": ["a", "a"]}, "namespaces"),
        ({"image": {"name": "x"}}, "image"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"image": {"tag": "a b"}}, "tag"),
        ({"operator": {"replicas": -1}}, "replicas"),
        ({"operator": {"replicas": "2"}}, "replicas"),
        ({"operator": {"leaseSeconds": 1}}, "leaseSeconds"),
        ({"operator": {"resources": {"request": {}}}}, "resources"),
        ({"operator": {"extraEnv": {"lower": "x"}}}, "extraEnv"),
        ({"operator": {"extraEnv": {"A": 1}}}, "extraEnv"),
        ({"operator": {"spread": "Never"}}, "spread"),
        ({"sandbox": {"hostUsers": "no"}}, "hostUsers"),
        ({"sandbox": {"cpuRequestFraction": 1.5}}, "cpuRequestFraction"),
        ({"sandbox": {"allowedImages": ['a"b']}}, "allowedImages"),
        ({"sandbox": {"overhead": {"memory": "1 GiB"}}}, "memory"),
        ({"sandbox": {"runtimeClassName": "g Visor"}}, "runtimeClassName"),
        ({"pools": [{"spec": {}}]}, "pools"),
        ({"pools": [{"name": "a", "spec": {"replica": 1}}]}, "pools"),
        ({"pools": [{"name": "a", "spec": {"whenEmpty": "Wait"}}]}, "pools"),
        ({"policy": {"permissions": ["root"]}}, "permissions"),
        ({"policy": {"maximumLimits": {"cpu": "many"}}}, "cpu"),
        ({"policy": {"maximumLimits": {"memory": "512m"}}}, "memory"),
        ({"policy": {"maximumLimits": {"timeout": 60}}}, "timeout"),
        ({"policy": {"maximumLimits": {"ram": "1Gi"}}}, "ram"),
        ({"policy": {"hostPaths": ["/"]}}, "hostPaths"),
        ({"secrets": {"lateNamespaces": ["*"]}}, "lateNamespaces"),
        ({"callers": ['x" || true || "']}, "callers"),
        ({"runnerSources": ["app"]}, "runnerSources"),
        ({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}}, "apiServerCIDRs"),
        ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
        ({"admission": {"actions": []}}, "actions"),
        ({"admission": {"actions": ["Refuse"]}}, "actions"),
        ({"metrics": {"from": [{}]}}, "from"),
        ({"metrics": {"serviceMonitor": {"enabled": "yes"}}}, "serviceMonitor"),
        ({"test": {"timeoutSeconds": 0}}, "timeoutSeconds"),
    ],
    ids=str,
)
def test_M10_wrong_values_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RenderError, match="specifications of the schema") as caught:
        render(values)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["CORRAL_NAMESPACES", "CORRAL_IDENTITY"])
def test_M10_a_setting_with_a_value_of_its_own_is_not_set_twice(name: str) -> None:
    with pytest.raises(RenderError, match=f"operator.extraEnv.{name}: the chart sets it"):
        render({"operator": {"extraEnv": {name: "[]"}}})


EVERYTHING: dict[str, Any] = {
    "namespaces": ["team-a", "team-b"],
    "imagePullSecrets": ["registry"],
    "operator": {"leaseSeconds": 5, "logFormat": "text", "extraEnv": {"CORRAL_SWEEP_SECONDS": "60"}},
    "sandbox": {
        "image": {
            "repository": "registry.example/corral/sandbox",
            "digest": f"sha256:{'0' * 64}",
            "pullPolicy": "Always",
        },
        "runtimeClassName": "gvisor",
        "allowedRuntimeClassNames": ["kata"],
        "hostUsers": False,
        "cpuRequestFraction": 0.5,
        "memoryRequestFraction": 1,
        "serviceAccountName": "sandboxes",
        "startSeconds": 120,
        "lingerSeconds": 60,
    },
    "secrets": {"lateNamespaces": ["team-a"]},
    "runnerSources": ["app=gateway"],
    "networkPolicy": {"verify": False, "require": True},
}


def settings(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what the operator reads from its environment."""
    deployment = one(render(values), "Deployment", "corral-operator")
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    known = {f"CORRAL_{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in variables} - known == set()
    assert len({variable["name"] for variable in variables}) == len(variables)
    for variable in variables:
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        pod = {"metadata.name": "corral-operator-abc", "metadata.namespace": "corral", "metadata.uid": "0-1"}
        value = pod.get(field)
        monkeypatch.setenv(variable["name"], variable.get("value", value))
    return Settings()


def test_M10_the_defaults_are_settings_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings({}, monkeypatch) == Settings(
        namespaces=("corral",),
        operator_namespace="corral",
        identity="corral-operator-abc",
        pod_uid="0-1",
        sandbox_image="corral/sandbox:dev",
        policy_file="/etc/corral/policy.yaml",
    )


def test_M10_every_value_reaches_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(EVERYTHING, monkeypatch) == Settings(
        namespaces=("team-a", "team-b"),
        operator_namespace="corral",
        identity="corral-operator-abc",
        pod_uid="0-1",
        sandbox_image=f"registry.example/corral/sandbox@sha256:{'0' * 64}",
        image_pull_policy="Always",
        image_pull_secrets=("registry",),
        host_users=False,
        runtime_class="gvisor",
        allowed_runtime_classes=("kata",),
        cpu_request_fraction=0.5,
        memory_request_fraction=1,
        service_account="sandboxes",
        late_secrets=("team-a",),
        runner_sources=("app=gateway",),
        verify_network_policy=False,
        require_network_policy=True,
        policy_file="/etc/corral/policy.yaml",
        lease_seconds=5,
        sweep_seconds=60,
        pod_start_seconds=120,
        linger_seconds=60,
        log_format="text",
    )


def test_M10_the_policy_file_has_the_fields_of_a_policy_but_the_hosts() -> None:
    found = one(render(), "ConfigMap", "corral-policy")
    policy = yaml.safe_load(found["data"]["policy.yaml"])
    # To Helm null is absent, and so it is to the operator.
    assert policy == {name: value for name, value in DEFAULTS["policy"].items() if value is not None}
    camel = {re.sub("_(.)", lambda match: match[1].upper(), name) for name in Policy.__dataclass_fields__}
    assert set(DEFAULTS["policy"]) == camel - {"hostPaths"}


def test_M10_another_policy_restarts_the_operator() -> None:
    def note(values: dict[str, Any]) -> str:
        template = one(render(values), "Deployment", "corral-operator")["spec"]["template"]
        return str(template["metadata"]["annotations"]["corral.dev/policy"])

    assert note({}) != note({"policy": {"allowlist": ["calculator"]}})


def test_M4_pools_come_from_the_values() -> None:
    pools = of_kind(
        render({"pools": [{"name": "big", "namespace": "team-a", "spec": {"replicas": 9}}]}), "SandboxPool"
    )
    assert [(pool["metadata"]["namespace"], pool["metadata"]["name"], pool["spec"]) for pool in pools] == [
        ("team-a", "big", {"replicas": 9})
    ]
    (default,) = of_kind(render(), "SandboxPool")
    assert (default["metadata"]["namespace"], default["spec"]) == ("corral", {"replicas": 2})


@pytest.mark.parametrize("release", ["corral", "my-corral", "agents", "a" * 53])
def test_M10_two_releases_share_no_name_without_a_namespace(release: str) -> None:
    def names(release: str, namespace: str) -> set[tuple[str, str]]:
        return {
            (each["kind"], each["metadata"]["name"])
            for each in render({"namespaces": ["*"]}, release=release, namespace=namespace)
            if "namespace" not in each["metadata"]
        }

    first, second = names(release, "one"), names(release, "two")
    assert len(first) == len(second) > 5
    assert first & second == set()
    assert all(len(name) <= 253 for _, name in first)
