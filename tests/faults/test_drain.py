"""B13: a node is drained: what ran on it is evicted, and only what may run twice, and asks for it, runs again."""

import pytest

from faults import workload
from faults.cluster import LOST_NODE, kubectl
from faults.scene import Scene


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
    scene.submit([task for prefix in "abc" for task in workload.pairs(prefix)])
    used = scene.until(scene.running, lambda pods: len(pods) == 6 and all(pod["owner"] for pod in pods))
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
