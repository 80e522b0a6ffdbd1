"""B2, B13: two thousand tasks at once on kwok's nodes: exactly two thousand pods, every task with an end.

Fake nodes run nothing, so no runner answers there and no execution can be counted; what is shown is what the operator
does to the API server. The tasks are programs in an image of their own, whose pods a fake kubelet "runs" for ever, so
each ends at its own timeout. How often real executions start is the subject of all other tests here.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from faults import workload
from faults.cluster import REPOSITORY, kubectl
from faults.scene import Scene

_TASKS = int(os.environ.get("CORRAL_FAULTS_TASKS", "2000"))
_CLASS = "faults-kwok"
_MEGABYTE = 1 << 20


def _rig(*arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")}
    command = [sys.executable, "-m", "rig", *arguments, "--kubeconfig", os.environ["KUBECONFIG"]]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=300)


@pytest.fixture
def fake_nodes() -> Iterator[None]:
    """Make kwok's nodes, and a RuntimeClass that sends pods to them."""
    _rig("kwok", "up")
    runtime_class = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": _CLASS},
        "handler": "runc",
        "scheduling": {
            "nodeSelector": {"corral-rig/kwok": ""},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        },
    }
    kubectl("apply", "-f", "-", text=json.dumps(runtime_class))
    yield
    kubectl("delete", "runtimeclass", _CLASS)
    _rig("kwok", "down")


@pytest.mark.timeout(900)
def test_B2_two_thousand_tasks_at_once_make_two_thousand_pods(scene: Scene, fake_nodes: None) -> None:
    scene.open()
    scene.operate(allowed_runtime_classes=f'["{_CLASS}"]', sweep_seconds=30, lease_seconds=8)
    limits = {"memory": "64Mi", "cpu": "100m", "timeout": "30s"}
    tasks = [
        workload.call(f"load-{n}", "program", seconds="1", limits=limits, runtimeClassName=_CLASS)
        for n in range(_TASKS)
    ]
    began = time.monotonic()
    for first in range(0, _TASKS, 250):
        scene.submit(tasks[first : first + 250])
    submitted = time.monotonic() - began
    scene.finish(seconds=800)
    ended = time.monotonic() - began
    writes = scene.harness.call("writes")
    peak = scene.harness.call("operator", name="a")["peak"]
    print(
        f"\n{_TASKS} tasks submitted in {submitted:.0f} s, ended after {ended:.0f} s; "
        f"writes {writes}, operator at most {peak / _MEGABYTE:.0f} MB"
    )
    assert writes["create pods"] == _TASKS
    assert len(scene.pods()) == _TASKS
    scene.check(f"{_TASKS} tasks at once", reasons={"DeadlineExceeded": _TASKS})
