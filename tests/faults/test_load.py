"""B2, B13: two thousand tasks at once on kwok's nodes: exactly two thousand pods, every task with an end.

Fake nodes run nothing, so no runner answers there and no execution can be counted; what is shown is what the operator
does to the API server. The tasks are programs in an image of their own, whose pods a fake kubelet "runs" for ever, so
each ends at its own timeout. How often real executions start is the subject of all other tests here.
"""

import os
import time

import pytest

from faults import workload
from faults.cluster import kubectl
from faults.scene import Scene

_TASKS = int(os.environ.get("CORRAL_FAULTS_TASKS", "2000"))
_CLASS = "faults-kwok"
_MEGABYTE = 1 << 20


@pytest.fixture
def fake_nodes() -> None:
    """Send pods of a RuntimeClass to kwok's nodes, which tolerate no others."""
    nodes = kubectl("get", "nodes", "--selector=corral-rig/kwok", "-o", "name").split()
    assert nodes, "kwok's nodes are not there: PYTHONPATH=scripts python -m rig kwok up"
    runtime_class = (
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\n"
        f"metadata: {{name: {_CLASS}}}\nhandler: runc\n"
        "scheduling:\n  nodeSelector: {corral-rig/kwok: ''}\n"
        "  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n"
    )
    kubectl("apply", "-f", "-", text=runtime_class)


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
