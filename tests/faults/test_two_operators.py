"""B13: two operators at once: that an execution starts once does not hang on the Lease."""

import signal

import pytest

from faults import workload
from faults.cluster import OWN
from faults.scene import Scene


@pytest.mark.timeout(240)
def test_B13_two_operators_that_both_believe_to_lead(scene: Scene) -> None:
    scene.open(pool=3)
    scene.operate("a", leader_election="false")
    scene.operate("b", leader_election="false")
    scene.warm_up(3)
    scene.submit([*workload.batch("two", warm=5, own=4, chains=2), *workload.batch("more")])
    scene.finish(seconds=120)
    scene.check("two operators, both leading")


@pytest.mark.timeout(240)
def test_B13_a_leader_that_pauses_and_wakes_up_after_its_lease_was_lost(scene: Scene) -> None:
    scene.open(pool=3)
    scene.operate("a")
    scene.warm_up(3)
    scene.operate("b")
    # What the first one writes now arrives only when the second one has long taken over.
    writes = {"verbs": ["create", "patch", "delete"], "resources": ["agenttasks", "pods", "sandboxpools"]}
    scene.faults({"kind": "delay", "clients": ["a"], "seconds": 12, "times": 12, **writes})
    scene.submit(workload.batch("before"))
    scene.until(lambda: any("delay" in name for name in scene.harness.call("made")))
    scene.harness.call("signal", name="a", number=int(signal.SIGSTOP))
    scene.finish(seconds=120)
    lease = scene.ask("GET", f"/apis/coordination.k8s.io/v1/namespaces/{OWN}/leases/corral-operator")
    assert lease["spec"]["holderIdentity"] == "faults-b"
    scene.harness.call("signal", name="a", number=int(signal.SIGCONT))
    scene.submit(workload.batch("after"))
    scene.finish(seconds=120)
    scene.check("a leader paused over its Lease, then awake")


@pytest.mark.timeout(240)
def test_B13_the_standby_takes_over_within_the_lease_and_a_second(scene: Scene) -> None:
    scene.open(pool=2)
    scene.operate("a")
    scene.warm_up(2)
    scene.operate("b")
    scene.submit([workload.call(f"long-{n}", seconds="6") for n in range(2)])
    scene.until(lambda: len(scene.running()) == 2)
    scene.harness.call("stop", name="a", number=int(signal.SIGKILL))
    scene.submit([workload.call(f"next-{n}") for n in range(2)])
    scene.finish()
    scene.check("the leader killed, the standby took over")
