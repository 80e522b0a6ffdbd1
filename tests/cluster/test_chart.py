"""M10: the chart on a real cluster, from `helm install` to `helm uninstall`.

The cluster's nodes must have the images; ``python -m rig`` loads them. Others than the chart's default are named by
CORRAL_OPERATOR_IMAGE, CORRAL_SANDBOX_IMAGE and CORRAL_GATEWAY_IMAGE.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chart.cluster import Refused, definitions, get, helm, kubectl, namespace
from chart.rendering import CHART, ROOT, render
from chart.test_values import EVERYTHING
from cluster.gateway_release import images
from eventually import eventually

_OF_ANOTHER_VERSION = "As another version of the chart describes it."


def _chart_of_another_version(directory: Path) -> str:
    """Return a chart whose definition of AgentTasks is another one."""
    chart = directory / "corral"
    shutil.copytree(CHART, chart)
    file = chart / "crds/agenttasks.corral.dev.yaml"
    text = file.read_text(encoding="utf-8")
    changed = text.replace("What an AI agent wants to run, and what became of it.", _OF_ANOTHER_VERSION)
    assert changed != text
    file.write_text(changed, encoding="utf-8")
    return str(chart)


def _description_of_tasks() -> Any:
    (version,) = json.loads(kubectl("get", "crd", "agenttasks.corral.dev", "-o", "json"))["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["description"]


@contextmanager
def _releases_gone(where: str) -> Iterator[None]:
    """See to it that what has no namespace goes, too: it goes only with its release."""
    try:
        yield
    finally:
        for release in ("corral", "again"):
            helm("uninstall", release, "--namespace", where, "--ignore-not-found")


@pytest.fixture
def place() -> Iterator[str]:
    with namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name, _releases_gone(name):
        yield name


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"namespaces": ["*"], "operator": {"replicas": 2}},
        {key: value for key, value in EVERYTHING.items() if key not in {"namespaces", "secrets"}},
        {"sandbox": {"allowedImages": ["a/b", "c"]}, "secrets": {"allowed": False}, "pools": []},
        {"admission": {"actions": ["Warn", "Audit"]}},
        {
            "gateway": {
                "database": {"urlSecret": {"name": "db"}},
                "rateLimits": {"storeSecret": {"name": "valkey"}},
                "grpc": {"tlsSecret": "cert"},
                "audit": {"signingKeySecret": {"name": "audit"}},
                "autoscaling": {"enabled": True},
                "ingress": {"enabled": True, "host": "corral.example.com", "tlsSecret": "cert"},
                "egress": [{"ports": [{"port": 9000}]}],
                "liveOutput": True,
            }
        },
    ],
    ids=["defaults", "everywhere", "everything", "closed", "warn", "gateway"],
)
def test_M10_a_real_api_server_takes_every_object(place: str, values: dict[str, Any]) -> None:
    definitions()
    objects = [
        each for each in render(values, namespace=place) if not each["apiVersion"].startswith("monitoring.")
    ]
    told = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=objects)
    assert len(told.splitlines()) == len(objects)
    assert "Warning" not in told


def test_M10_helm_asks_the_server_before_it_installs(place: str) -> None:
    told = helm("install", "corral", str(CHART), "--namespace", place, "--dry-run=server")
    assert "kind: ValidatingAdmissionPolicy" in told


@pytest.mark.timeout(600)
def test_M10_install_test_upgrade_and_uninstall(place: str, tmp_path: Path) -> None:
    chart, where = str(CHART), ("--namespace", place)
    wait = ("--wait", "--timeout", "120s")
    assert "helm test corral" in helm("install", "corral", chart, *where, *wait, values=images())
    eventually(
        lambda: get("sandboxpools.corral.dev", "default", place).get("status", {}).get("ready"),
        lambda n: n == 2,
        seconds=60,
    )

    told = helm("test", "corral", *where, "--timeout", "240s")
    assert "Phase:          Succeeded" in told
    assert "Failed" not in told

    kubectl("apply", *where, "-f", str(ROOT / "k8s/samples/01-calculator.yaml"))
    kubectl(
        "wait",
        *where,
        "--for=jsonpath={.status.reason}=Completed",
        "--timeout=60s",
        "agenttasks.corral.dev/calculator",
    )
    before = get("agenttasks.corral.dev", "calculator", place)
    assert before["status"]["executions"][0]["result"] == 100

    another = _chart_of_another_version(tmp_path)
    helm("upgrade", "corral", another, *where, *wait, values={**images(), "operator": {"replicas": 2}})
    assert _description_of_tasks() == _OF_ANOTHER_VERSION
    assert get("agenttasks.corral.dev", "calculator", place) == before
    kubectl("delete", *where, "agenttasks.corral.dev", "calculator")
    kubectl("apply", *where, "-f", str(ROOT / "k8s/samples/01-calculator.yaml"))
    kubectl(
        "wait",
        *where,
        "--for=jsonpath={.status.reason}=Completed",
        "--timeout=60s",
        "agenttasks.corral.dev/calculator",
    )
    # The hooks' accounts and rights were there only for a moment.
    left = kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert f"corral-crds.{place}" not in left

    helm("uninstall", "corral", *where, *wait)
    assert get("agenttasks.corral.dev", "calculator", place)["status"]["reason"] == "Completed"
    eventually(lambda: kubectl("get", "pods", *where, "-o", "name"), lambda names: names == "", seconds=60)
    kept = kubectl(
        "get",
        "networkpolicies,roles,rolebindings,deployments,sandboxpools.corral.dev,secrets,poddisruptionbudgets,jobs",
        *where,
        "-o",
        "name",
    )
    assert sorted(kept.split()) == [
        "networkpolicy.networking.k8s.io/corral-sandbox",
        "secret/corral-runner-key",
    ]
    assert f".{place}" not in kubectl(
        "get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name"
    )

    # And once more, over what the other version left, under another name.
    helm("install", "again", chart, *where, *wait, values=images())
    assert _description_of_tasks() != _OF_ANOTHER_VERSION
    helm("uninstall", "again", *where, *wait)
    # Nothing of Corral's holds the namespace back.
    kubectl("delete", "namespace", place, "--timeout=60s")
    with pytest.raises(Refused, match="not found"):
        get("namespace", place, place)
    kubectl("create", "namespace", place)  # for whoever deletes it next
