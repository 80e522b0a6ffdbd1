"""Pods of tests that are no sandboxes: one container, with no more rights than it needs."""

from collections.abc import Sequence
from typing import Any

from chart.cluster import kubectl


def plain_pod(
    name: str,
    labels: dict[str, str],
    image: str,
    command: Sequence[str],
    *,
    env: Sequence[dict[str, Any]] = (),
    work: bool = False,
) -> dict[str, Any]:
    """Return a pod.

    Args:
        name: its own.
        labels: by which policies know it.
        image: one that the nodes have.
        command: what it runs.
        env: its environment.
        work: it has an empty directory ``/work`` to write to.
    """
    own: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": security,
        "containers": [own],
    }
    if env:
        own["env"] = list(env)
    if work:
        own["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
        security["fsGroup"] = 65532
        spec["volumes"] = [{"name": "work", "emptyDir": {}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def wait_until_ready(namespace: str, name: str) -> None:
    """Return when a pod runs."""
    ready = ("--for=condition=Ready", "--timeout=120s", f"pod/{name}")
    kubectl("wait", "--namespace", namespace, *ready, seconds=150)
