"""B13: an operator that is killed at any of its writes loses nothing and starts nothing twice."""

import itertools
import os
import time

import pytest

from faults import workload
from faults.scene import Scene

#: Seconds that go into seeds; the first round always runs to its end.
_BUDGET_SECONDS = float(os.environ.get("CORRAL_FAULTS_KILL_SECONDS", "45"))
_FIRST_SEED = int(os.environ.get("CORRAL_FAULTS_SEED", "1"))
_WRITES = ("create pods", "patch agenttasks/status", "delete pods")
_PAST_A_WRITE = ["unanswered", "answered"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", _PAST_A_WRITE)
def test_B13_killed_after_each_write_in_turn(scene: Scene, stage: str) -> None:
    scene.open(pool=3)
    scene.operate()
    scene.warm_up(3)
    kills = []
    for number, kind in enumerate(_WRITES):
        harness = scene.harness
        harness.call("kill_at_writes", name="a", seed=1, stages=[stage], gap=[1, 1], kills=6, kinds=[kind])
        scene.submit(workload.batch(f"{stage[:2]}{number}", own=1))
        scene.finish(seconds=180)
        kills += scene.harness.call("kills", name="a")
    scene.check(f"killed at {len(kills)} writes in turn, {stage}")
    assert set(kills) == {f"{kind} {stage}" for kind in _WRITES}
    assert len(kills) >= 4 * len(_WRITES)


@pytest.mark.timeout(900)
def test_B13_killed_at_writes_by_chance_with_many_seeds(scene: Scene) -> None:
    scene.open(pool=3)
    scene.operate()
    scene.warm_up(3)
    deadline = time.monotonic() + _BUDGET_SECONDS
    kills = 0
    for seed in itertools.count(_FIRST_SEED):
        stages = ["unwritten", *_PAST_A_WRITE]
        scene.harness.call("kill_at_writes", name="a", seed=seed, stages=stages, gap=[1, 4], kills=8)
        scene.submit(workload.batch(f"s{seed}"))
        scene.finish(seconds=180)
        kills += len(scene.harness.call("kills", name="a"))
        print(f"seed {seed}: {kills} kills so far")
        if time.monotonic() > deadline:
            break
    scene.check(f"seeds {_FIRST_SEED} to {seed}, {kills} kills")
    assert kills >= 4


def test_B13_killed_between_naming_and_making_a_programs_pod_says_that_nobody_knows(scene: Scene) -> None:
    # A program starts with its container. Whether one that is not there ever was, nobody can tell any more; so it is
    # made again only where its tool may run twice, as those of the other tests.
    scene.open()
    scene.operate()
    scene.harness.call("kill_at_writes", name="a", seed=1, stages=["unanswered"], gap=[1, 1], kills=1)
    limits = {"memory": "64Mi", "cpu": "500m"}
    scene.submit([workload.call("unknown", "program-once", limits=limits)])
    scene.finish()
    assert scene.harness.call("kills", name="a") == ["patch agenttasks/status unanswered"]
    assert not scene.pods()
    scene.check("killed before a program's pod was made", reasons={"SandboxFailed": 1})
