"""B13: a node is lost mid-run, paused or stopped: each task says so, only what may run twice does, and when the node
comes back with what it ran, nothing runs twice.

These tests take a node away from everybody: they announce it in a file, and come last (``make`` runs them alone).
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from faults import workload
from faults.cluster import LOST_NODE, kubectl
from faults.scene import Json, Scene

_RETRY = {"maxAttempts": 2, "backoff": "100ms"}
#: Longer than a node is away, so that a tool on it would go on when it is back.
_RUN_SECONDS = "240"
#: A node counts as lost after 40 to 50 s; the operator then looks for so long at what became of its pods.
_LOST_SECONDS = 175.0


def _docker(*arguments: str) -> None:
    assert shutil.which("docker"), "node loss is made with docker on a kind cluster; there is no docker"
    subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=120)


@contextmanager
def _node_away(down: list[str], up: list[str]) -> Iterator[None]:
    began = time.monotonic()
    try:
        _docker(*down, LOST_NODE)
        yield
    finally:
        _docker(*up, LOST_NODE)
        kubectl("wait", "--for=condition=Ready", f"node/{LOST_NODE}", "--timeout=120s", seconds=150)
        print(f"{LOST_NODE} was away for {time.monotonic() - began:.0f} s")


def _spread(scene: Scene) -> tuple[list[Json], list[Json]]:
    """Run pairs of tasks, one of each that may run twice; return the pods on the node to lose, and the others."""
    scene.open()
    # Apart from the pool's, these pods are where the scheduler puts them, and that is on both nodes.
    scene.operate(pod_start_seconds=120)
    spec = {"retry": _RETRY, "limits": {"memory": "256Mi", "timeout": "10m"}}
    tasks = [
        workload.call(f"{tool}-{n}", tool, seconds=_RUN_SECONDS, **spec)
        # The scheduler takes turns: in this order each node gets both.
        for n, tool in enumerate(("again", "once", "once", "again", "again", "once"))
    ]
    scene.submit(tasks)
    used = scene.until(scene.running, lambda pods: len(pods) == len(tasks))
    there = [pod for pod in used if pod["node"] == LOST_NODE]
    assert there, f"the scheduler put nothing on {LOST_NODE}"
    return there, [pod for pod in used if pod["node"] != LOST_NODE]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("down", "up"),
    [(["pause"], ["unpause"]), (["stop", "--time", "1"], ["start"])],
    ids=["paused", "stopped"],
)
def test_B13_lost_node(scene: Scene, down: list[str], up: list[str]) -> None:
    there, others = _spread(scene)
    lost = {pod["labels"]["corral.dev/task-uid"] for pod in there}
    scene.harness.call("take", pods=[pod["uid"] for pod in there])

    def known() -> dict[str, tuple[str | None, int]]:
        return {
            one["name"]: (one["status"].get("reason"), one["status"].get("attempt", 1))
            for one in scene.harness.call("tasks", namespace=scene.namespace)
            if one["uid"] in lost
        }

    with _node_away(down, up):
        scene.until(
            known,
            lambda found: all(
                attempt == 2 if name.startswith("again") else reason
                for name, (reason, attempt) in found.items()
            ),
            seconds=_LOST_SECONDS,
        )
    said = known()
    print(f"while {LOST_NODE} was away: {said}")
    print({name: status.get("message") for name, status in scene.statuses().items()})
    for name, (reason, attempt) in said.items():
        if name.startswith("once"):
            assert (reason, attempt) == ("NodeLost", 1), said
    # What did not end by itself is ended, so that the test does: cancelled, it says so.
    for one in scene.harness.call("tasks", namespace=scene.namespace):
        if not one["status"].get("reason"):
            scene.ask("PATCH", scene.path("agenttasks", one["name"]), {"spec": {"cancel": True}})
    scene.finish()
    scene.until(scene.present, lambda present: present["pods"] == 0)
    reasons = {"NodeLost": sum(name.startswith("once") for name in said)}
    reasons["Cancelled"] = len(others) + len(said) - reasons["NodeLost"]
    scene.check(
        f"{LOST_NODE} {down[0]}, {len(there)} of {len(there) + len(others)} pods on it",
        reasons={reason: n for reason, n in reasons.items() if n},
    )
