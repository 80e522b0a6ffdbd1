"""B13: what a cluster does to single pods: eviction, drain, kernel OOM. Each has its reason; only what is declared
idempotent, and asks for it, runs again.
"""

import pytest

from faults import workload
from faults.cluster import LOST_NODE, kubectl
from faults.scene import Scene

_RETRY = {"maxAttempts": 2, "backoff": "100ms"}


def _pairs(prefix: str) -> list[workload.Json]:
    """Return tasks that ask for a retry, of a tool that may run twice and of one that may not."""
    return [
        workload.call(f"{prefix}-again", "again", seconds="10", retry=_RETRY),
        workload.call(f"{prefix}-once", "once", seconds="10", retry=_RETRY),
    ]


@pytest.mark.timeout(180)
def test_B13_evicted_pods(stage: Scene) -> None:
    stage.submit(_pairs("evicted"))
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


@pytest.mark.timeout(240)
def test_B13_drained_node(scene: Scene) -> None:
    name = f"drained-{scene.namespace[-6:]}"
    scene.open()
    scene.apply("sandboxpools", [workload.pool(6, name=name)])
    scene.operate()
    scene.until(
        lambda: scene.ask("GET", scene.path("sandboxpools", name)).get("status") or {},
        lambda status: status.get("ready", 0) >= 6,
    )
    scene.submit([*_pairs("a"), *_pairs("b"), *_pairs("c")])
    used = scene.until(scene.running, lambda pods: len(pods) == 6)
    there = [pod for pod in used if pod["node"] == LOST_NODE]
    assert there, "the scheduler put nothing on the node to drain"
    scene.harness.call("take", pods=[pod["uid"] for pod in there])
    try:
        # Only this pool's pods: others work on this node.
        selector = f"--pod-selector=corral.dev/pool={name}"
        kubectl("drain", LOST_NODE, selector, "--force", "--delete-emptydir-data", "--timeout=90s")
    finally:
        kubectl("uncordon", LOST_NODE)
    scene.finish()
    evicted = {pod["owner"][0].split("/")[0] for pod in there}
    for task in scene.harness.call("tasks", namespace=scene.namespace):
        status, once = task["status"], task["name"].endswith("once")
        wanted = (
            ("Evicted", 1) if once and task["uid"] in evicted else ("Completed", 1 + (task["uid"] in evicted))
        )
        assert (status["reason"], status["attempt"]) == wanted, task
    reasons = {"Evicted": 0, "Completed": 0}
    for status in scene.statuses().values():
        reasons[status["reason"]] += 1
    scene.check("a drained node", reasons={reason: n for reason, n in reasons.items() if n})
