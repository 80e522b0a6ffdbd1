"""M1, M10: what a cluster refuses of tasks, tools and pools, at once and by the field's name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chart.cluster import Refused, applied, definitions, kubectl, namespace, try_out
from chart.rendering import Object, is_hook, render
from eventually import eventually

VALUES: dict[str, Any] = {
    "sandbox": {"allowedImages": ["registry.example/team/"], "allowedRuntimeClassNames": ["gvisor"]},
    "policy": {
        "maximumLimits": {
            "cpu": 2,
            "cpuTime": "10m",
            "memory": "1Gi",
            "processes": 100,
            "disk": "512Mi",
            "fileSize": "256Mi",
            "openFiles": 1024,
            "output": "1Mi",
            "timeout": "5m",
            "idleTimeout": "1m30s",
        }
    },
    "secrets": {"namePrefixes": ["agent-"]},
    "admission": {"poolReplicas": 20},
}
#: Just as much as is allowed.
MOST = {**VALUES["policy"]["maximumLimits"], "memory": "1024Mi", "timeout": "300s", "cpu": "2000m"}


@dataclass(frozen=True)
class Place:
    """A namespace that is served, and its accounts."""

    served: str

    @property
    def operator(self) -> str:
        return f"system:serviceaccount:{self.served}:corral-operator"

    @property
    def gateway(self) -> str:
        return f"system:serviceaccount:{self.served}:corral-gateway"

    def refusal(self, kind: str, spec: dict[str, Any], *, user: str | None = None, **metadata: Any) -> str:
        """Return why the API server refuses an object; empty if it takes it."""
        found = {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": "tried", **metadata},
            "spec": spec,
        }
        try:
            try_out(found, namespace=self.served, user=user)
        except Refused as refused:
            return str(refused)
        return ""

    def task(self, *, user: str | None = None, labels: dict[str, str] | None = None, **spec: Any) -> str:
        wanted = {"tool": "calculator", "arguments": {"expression": "1 + 1"}, **spec}
        return self.refusal("AgentTask", wanted, user=user, labels=labels or {})


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    definitions()
    with namespace() as served:
        found = Place(served)
        objects: list[Object] = [
            each
            for each in render(VALUES, namespace=served)
            if each["kind"].startswith(("ValidatingAdmission", "Role", "ServiceAccount"))
            and not is_hook(each)
        ]
        objects += _tenant(served)
        with applied(objects):
            # The policies take effect one by one.
            eventually(lambda: found.task(workspace={"hostPath": "/"}), lambda told: "denied" in told)
            eventually(lambda: found.task(labels={"corral.dev/caller": "x"}), lambda told: "denied" in told)
            eventually(lambda: found.refusal("SandboxPool", {"replicas": 21}), lambda told: "denied" in told)
            eventually(lambda: found.refusal("Tool", tool("docker.io/x")), lambda told: "denied" in told)
            yield found


def _tenant(served: str) -> list[Object]:
    """Give the gateway's account, and that of a tenant, all rights in the namespace."""
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "everything", "namespace": served},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": name, "namespace": served}
                for name in ("corral-gateway", "tenant")
            ],
        }
    ]


def tool(image: str | None) -> dict[str, Any]:
    command: dict[str, Any] = {"argv": ["true"]}
    if image is not None:
        command["image"] = image
    return {"description": "Does nothing.", "run": {"command": command}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"limits": MOST},
        {"limits": {"cpu": 1, "memory": 1073741824, "timeout": "4m59.5s"}},
        {"workspace": {"readOnly": True}},
        {"runtimeClassName": "gvisor"},
        {"secretRefs": [{"name": "agent-token", "key": "k", "env": "TOKEN"}]},
    ],
    ids=str,
)
def test_M1_a_task_within_the_rules_is_taken(place: Place, spec: dict[str, Any]) -> None:
    assert place.task(**spec) == ""


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"workspace": {"hostPath": "/etc"}},
            "spec.workspace.hostPath: a cluster gives no directory of a node",
        ),
        ({"runtimeClassName": "runc"}, "spec.runtimeClassName: runc is not allowed; use gvisor"),
        (
            {"secretRefs": [{"name": "corral-runner-key", "key": "key", "env": "A"}]},
            "spec.secretRefs: Corral's own Secrets",
        ),
        ({"secretRefs": [{"name": "database", "key": "k", "env": "A"}]}, "must begin with agent-"),
        *(
            ({"limits": {name: more}}, f"spec.limits.{name}: asks for {more}, the most here is {most}")
            for name, more, most in (
                ("cpu", 3, 2),
                ("cpu", "2001m", 2),
                ("cpuTime", "601s", "10m"),
                ("memory", "1025Mi", "1Gi"),
                ("memory", 1073741825, "1Gi"),
                ("processes", 101, 100),
                ("disk", "1Gi", "512Mi"),
                ("fileSize", "257Mi", "256Mi"),
                ("openFiles", 1025, 1024),
                ("output", "2M", "1Mi"),
                ("timeout", "5m1ms", "5m"),
                ("idleTimeout", "2m", "1m30s"),
            )
        ),
    ],
    ids=str,
)
def test_M2_a_task_that_asks_for_more_is_refused_by_its_field(
    place: Place, spec: dict[str, Any], told: str
) -> None:
    assert told in place.task(**spec)


@pytest.mark.parametrize("name", VALUES["policy"]["maximumLimits"])
def test_M2_a_step_that_asks_for_more_is_refused_by_its_name(place: Place, name: str) -> None:
    more = {
        "cpuTime": "1h",
        "timeout": "1h",
        "idleTimeout": "1h",
        "processes": 999,
        "openFiles": 9999,
        "cpu": 3,
    }
    steps = [
        {"name": "small", "tool": "calculator", "limits": {name: MOST[name]}},
        {
            "name": "large",
            "tool": "calculator",
            "limits": {name: more.get(name, "2Gi" if name != "output" else "2Mi")},
        },
    ]
    told = place.refusal("AgentTask", {"steps": steps})
    assert f"spec.steps[name=large].limits.{name}: the most here is" in told
    assert place.refusal("AgentTask", {"steps": steps[:1]}) == ""


def test_M1_the_status_is_the_operators_alone(place: Place) -> None:
    task = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "standing", "namespace": place.served},
        "spec": {"tool": "calculator", "arguments": {"expression": "1 + 1"}},
    }
    pool = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "SandboxPool",
        "metadata": {"name": "standing", "namespace": place.served},
        "spec": {"replicas": 1},
    }
    kubectl("create", "-f", "-", stdin=[task, pool])
    tenant = f"system:serviceaccount:{place.served}:tenant"

    def patch(kind: str, user: str | None, change: str, *more: str) -> str:
        try:
            kubectl(
                *("patch", kind, "standing", "--namespace", place.served, "--type=merge", "-p", change),
                *("--dry-run=server", *more),
                user=user,
            )
        except Refused as refused:
            return str(refused)
        return ""

    forged = '{"status":{"phase":"Succeeded","reason":"Completed"}}'
    for user in (None, tenant, place.gateway):
        assert "status: written by Corral's operator alone" in patch(
            "agenttasks.corral.dev", user, forged, "--subresource=status"
        )
        told = patch("sandboxpools.corral.dev", user, '{"status":{"ready":9}}', "--subresource=status")
        assert "status: written by Corral's operator alone" in told
    raw = f"/apis/corral.dev/v1alpha1/namespaces/{place.served}/agenttasks/standing/status?dryRun=All"
    written = {**task, "status": {"phase": "Queued"}}
    written["metadata"] = {**task["metadata"], "resourceVersion": ""}  # type: ignore[dict-item]
    # The operator has no right to PUT, only to PATCH; RBAC says no before any policy does.
    with pytest.raises(Refused, match="forbidden"):
        kubectl("replace", "--raw", raw, "-f", "-", stdin=written, user=place.operator)

    # Everybody who may: cancel, label, annotate. Nobody: say for whom a task runs, but the gateway.
    assert patch("agenttasks.corral.dev", tenant, '{"spec":{"cancel":true}}') == ""
    assert patch("agenttasks.corral.dev", tenant, '{"metadata":{"labels":{"team":"a"}}}') == ""
    caller = '{"metadata":{"labels":{"corral.dev/caller":"somebody"}}}'
    assert "corral.dev/caller" in patch("agenttasks.corral.dev", tenant, caller)
    assert patch("agenttasks.corral.dev", place.gateway, caller) == ""

    # The scale subresource.
    def scaled(replicas: int) -> str:
        try:
            kubectl(
                "scale",
                "sandboxpools.corral.dev",
                "standing",
                "--namespace",
                place.served,
                f"--replicas={replicas}",
            )
        except Refused as refused:
            return str(refused)
        return ""

    assert "the most here is 20" in scaled(21)
    assert scaled(0) == ""


def test_M5_only_the_gateway_says_for_whom_a_task_runs(place: Place) -> None:
    labels = {"corral.dev/caller": "somebody"}
    assert "metadata.labels[corral.dev/caller]: set by Corral's gateway alone" in place.task(labels=labels)
    assert place.task(labels=labels, user=place.gateway) == ""
    assert place.task(labels={"team": "a"}) == ""


def test_M5_only_the_gateway_says_that_a_tool_came_through_it(place: Place) -> None:
    labels, spec = {"corral.dev/caller": "somebody"}, tool("registry.example/team/x")
    told = place.refusal("Tool", spec, labels=labels)
    assert "metadata.labels[corral.dev/caller]: set by Corral's gateway alone" in told
    assert place.refusal("Tool", spec, labels=labels, user=place.gateway) == ""
    assert place.refusal("Tool", spec, labels={"team": "a"}) == ""

    def labelled(name: str, value: str) -> str:
        try:
            kubectl("label", "--overwrite", "tool", name, value, "--namespace", place.served, user=tenant)
        except Refused as refused:
            return str(refused)
        return ""

    tenant = f"system:serviceaccount:{place.served}:tenant"
    head = {"apiVersion": "corral.dev/v1alpha1", "kind": "Tool", "spec": spec}
    made = {**head, "metadata": {"name": "registered", "namespace": place.served, "labels": labels}}
    kubectl("create", "-f", "-", stdin=made, user=place.gateway)
    assert "set by Corral's gateway alone" in labelled("registered", "corral.dev/caller=another")
    assert labelled("registered", "team=a") == ""
    # Whoever may write it may take it over, and not give it back.
    assert labelled("registered", "corral.dev/caller-") == ""
    assert "set by Corral's gateway alone" in labelled("registered", "corral.dev/caller=somebody")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"replicas": 20}, ""),
        ({"replicas": 1, "image": "registry.example/team/sandbox:1", "runtimeClassName": "gvisor"}, ""),
        ({"replicas": 1, "image": "corral/sandbox:dev"}, ""),
        ({"replicas": 21}, "spec.replicas: asks for 21, the most here is 20"),
        (
            {"image": "docker.io/library/busybox"},
            "spec.image: docker.io/library/busybox is not an allowed image",
        ),
        ({"runtimeClassName": "runc"}, "spec.runtimeClassName: runc is not allowed"),
        ({"resources": {"cpu": 3}}, "spec.resources.cpu: asks for 3, the most here is 2"),
        ({"resources": {"memory": "2Gi"}}, "spec.resources.memory: asks for 2Gi"),
        ({"resources": {"disk": "1Gi"}}, "spec.resources.disk: asks for 1Gi"),
    ],
    ids=str,
)
def test_M4_pools_are_held_to_the_values(place: Place, spec: dict[str, Any], told: str) -> None:
    refusal = place.refusal("SandboxPool", spec)
    assert told in refusal
    assert bool(told) is bool(refusal)


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (None, True),
        ("registry.example/team/tool:1", True),
        ("corral/sandbox:dev", True),
        ("registry.example/teams/tool:1", False),
        ("busybox", False),
    ],
)
def test_M10_tools_use_allowed_images(place: Place, image: str | None, allowed: bool) -> None:  # noqa: FBT001
    told = place.refusal("Tool", tool(image))
    assert told == "" if allowed else f"spec.run.command.image: {image} is not an allowed image" in told


def test_M10_the_expressions_have_no_type_errors(place: Place) -> None:
    """The API server checks them against the schemas in the background, and says so in the policies' status."""

    def checked() -> dict[str, Any]:
        listed = json.loads(kubectl("get", "validatingadmissionpolicies", "-o", "json"))
        return {
            each["metadata"]["name"]: each.get("status", {}).get("typeChecking", "not yet")
            for each in listed["items"]
            if each["metadata"]["name"].endswith(f".{place.served}")
        }

    found = eventually(checked, lambda found: "not yet" not in found.values())
    assert len(found) == 9
    assert json.dumps({name: told for name, told in found.items() if told}, indent=1) == "{}"
