"""M10: every pod of the chart passes Pod Security restricted, and the operator's survives what pods go through."""

from collections.abc import Iterator
from typing import Any

import pytest

from chart.rendering import Object, of_kind, one, render
from chart.test_values import EVERYTHING


def pods(objects: list[Object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for found in objects:
        template = found.get("spec", {}).get("template")
        if template is not None:
            yield f"{found['kind']}/{found['metadata']['name']}", template["spec"]
        assert found["kind"] != "Pod"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_M10_every_pod_passes_restricted_and_more(values: dict[str, Any]) -> None:
    seen = dict(pods(render(values)))
    assert set(seen) == {
        "Deployment/corral-operator",
        "Deployment/corral-gateway",
        "Job/corral-crds",
        "Job/corral-test",
        "Job/corral-gateway-test",
    }
    for spec in seen.values():
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert spec["enableServiceLinks"] is False
        assert {source for volume in spec["volumes"] for source in volume if source != "name"} <= {
            "configMap",
            "emptyDir",
            "persistentVolumeClaim",
            "secret",
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert not any("hostPort" in port for port in container.get("ports", ()))
            assert all(
                mount.get("readOnly") or mount["mountPath"] in {"/tmp", "/var/lib/corral"}
                for mount in container["volumeMounts"]
            )


def test_M10_the_operator_is_probed_where_it_listens() -> None:
    spec = one(render(), "Deployment", "corral-operator")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": 8080, "metrics": 9090}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/healthz", "port": "health"},
        "livenessProbe": {"path": "/healthz", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
    }


def test_M10_two_replicas_spread_and_are_drained_one_at_a_time() -> None:
    objects = render({"operator": {"replicas": 2, "spread": "DoNotSchedule"}})
    deployment = one(objects, "Deployment", "corral-operator")
    template = deployment["spec"]["template"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["replicas"] == 2
    assert labels.items() <= template["metadata"]["labels"].items()
    (spread,) = template["spec"]["topologySpreadConstraints"]
    assert spread == {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    budget = one(objects, "PodDisruptionBudget", "corral-operator")
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    assert of_kind(render({"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []


@pytest.mark.parametrize(
    ("namespaces", "where"),
    [([], "corral"), (["*"], "corral"), (["team-a", "corral"], "corral"), (["team-a", "team-b"], "team-a")],
)
def test_M10_helm_test_runs_its_task_in_a_served_namespace(namespaces: list[str], where: str) -> None:
    objects = render({"namespaces": namespaces})
    job = one(objects, "Job", "corral-test")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-B", "/scripts/run_task.py", where, "180"]
    role = one(objects, "Role", "corral-test")
    assert role["metadata"]["namespace"] == where
    assert role["rules"] == [
        {"apiGroups": ["corral.dev"], "resources": ["agenttasks"], "verbs": ["create", "get", "delete"]}
    ]
