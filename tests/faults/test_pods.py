"""B13: what a cluster does to single pods: eviction, kernel OOM. Each has its reason; only what is declared idempotent,
and asks for it, runs again.
"""

import pytest

from faults import workload
from faults.scene import Scene


@pytest.mark.timeout(180)
def test_B13_evicted_pods(stage: Scene) -> None:
    stage.submit(workload.pairs("evicted"))
    used = stage.until(stage.running, lambda pods: len(pods) == 2)
    stage.harness.call("take", pods=[pod["uid"] for pod in used])
    for pod in used:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["name"]}}
        answer = stage.ask("POST", stage.path("pods", pod["name"], core=True) + "/eviction", body)
        assert answer.get("error") is None, answer
    stage.finish()
    stage.check("evicted through the API", reasons={"Evicted": 1, "Completed": 1})
    assert stage.statuses()["evicted-once"]["reason"] == "Evicted"
    assert stage.statuses()["evicted-again"]["attempt"] == 2


@pytest.mark.timeout(180)
def test_B13_a_tool_killed_by_the_kernel_for_its_memory(stage: Scene) -> None:
    # Not one large allocation, which the runner's own limit refuses, but many processes that the cgroup sums up.
    eat = "for i in 1 2 3 4 5 6; do (head -c 40m /dev/zero | tail -c 40m | sleep 20) & done; wait"
    spec = {"tool": "shell", "arguments": {"command": eat}, "limits": {"memory": "64Mi"}}
    stage.submit([workload.task("oom", spec)])
    stage.finish()
    stage.check("out of memory", reasons={"OutOfMemory": 1})
