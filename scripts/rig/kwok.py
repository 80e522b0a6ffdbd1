"""Fake nodes: kwok plays their kubelets, so that thousands of pods can come and go without running anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import binaries
from rig.errors import RigError
from rig.paths import cache
from rig.progress import say, step
from rig.versions import KWOK

if TYPE_CHECKING:
    from rig.kubectl import Kubectl

ANNOTATION = "kwok.x-k8s.io/node"
_LABEL = "corral-rig/kwok"
_READY_SECONDS = 60
_STOP_SECONDS = 20


def up(kubectl: Kubectl, cluster: str, count: int) -> None:
    """Start kwok on this machine and make nodes for it.

    Only what tolerates the taint `kwok.x-k8s.io/node=fake:NoSchedule` comes to these nodes.
    """
    kubectl.apply(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [node(number) for number in range(count)]})
    )
    if _running(cluster) is None:
        _start(kubectl, cluster)
    with step(f"waiting for {count} nodes of kwok's"):
        ready = (
            "wait",
            "node",
            f"--selector={_LABEL}",
            "--for=condition=Ready",
            f"--timeout={_READY_SECONDS}s",
        )
        kubectl(*ready, timeout_seconds=_READY_SECONDS + 10)


def down(kubectl: Kubectl, cluster: str) -> None:
    """Delete kwok's nodes with what is on them, and end kwok."""
    if kubectl.answers():
        # Nobody would confirm that pods on these nodes have ended once kwok is gone, so they go first.
        fake = {
            item["metadata"]["name"] for item in kubectl.json("get", "nodes", f"--selector={_LABEL}")["items"]
        }
        gone = ("--all-namespaces", "--grace-period=0", "--force", "--wait=false")
        for name in sorted(fake):
            kubectl("delete", "pods", f"--field-selector=spec.nodeName={name}", *gone, timeout_seconds=120)
        kubectl("delete", "node", f"--selector={_LABEL}", timeout_seconds=120)
    stop(cluster)


def stop(cluster: str) -> None:
    """End the kwok of a cluster, if it runs."""
    pid = _running(cluster)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _running(cluster) is not None:
        if time.monotonic() > deadline:
            raise RigError(f"kwok ({pid}) does not end", f"See {_log(cluster)}.")
        time.sleep(0.1)
    _pid_file(cluster).unlink()
    say("kwok has ended")


def node(number: int) -> dict[str, Any]:
    """A node that kwok takes for its own: large, and tainted so that real pods keep away."""
    name = f"kwok-{number}"
    size = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                _LABEL: "",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": size, "capacity": size},
    }


def _start(kubectl: Kubectl, cluster: str) -> None:
    command = [
        str(binaries.path("kwok")),
        f"--kubeconfig={kubectl.kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
        f"--config={_stages(cluster)}",
    ]
    with _log(cluster).open("wb") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    _pid_file(cluster).write_text(str(started.pid), encoding="utf-8")


def _stages(cluster: str) -> Path:
    """What happens to a node and to a pod, and when: kwok's own description of the quickest life, from its module."""
    kustomize = Path(binaries.module("sigs.k8s.io/kwok", KWOK)["Dir"]) / "kustomize/stage"
    texts = [
        file.read_text(encoding="utf-8")
        for folder in ("node/fast", "pod/fast")
        for file in sorted((kustomize / folder).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
    target = _pid_file(cluster).with_suffix(".yaml")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n---\n".join(texts), encoding="utf-8")
    return target


def _running(cluster: str) -> int | None:
    try:
        pid = int(_pid_file(cluster).read_text(encoding="utf-8"))
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (OSError, ValueError):
        return None
    return pid if program.endswith(b"/kwok") else None


def _pid_file(cluster: str) -> Path:
    return cache() / "run" / f"kwok-{cluster}.pid"


def _log(cluster: str) -> Path:
    return _pid_file(cluster).with_suffix(".log")
