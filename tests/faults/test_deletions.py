"""B13: a task, a pool, a namespace, an operator is deleted mid-run: nothing is left, nothing is stuck."""

import signal

import pytest

from corral_operator.names import cold_pod_name
from faults import workload
from faults.cluster import SANDBOX_IMAGE
from faults.scene import Scene

_LONG = "30"


@pytest.mark.timeout(180)
def test_B13_tasks_deleted_while_they_run_leave_nothing(scene: Scene) -> None:
    scene.open(pool=2)
    scene.operate()
    scene.warm_up(2)
    tasks = [workload.call("warm", seconds=_LONG), workload.cold("cold", seconds=_LONG)]
    tasks += [workload.call("program", "program", seconds=_LONG, limits={"memory": "64Mi"})]
    scene.submit(tasks)
    used = {pod["uid"] for pod in scene.until(scene.running, lambda pods: len(pods) == 3)}
    for task in tasks:
        scene.delete("agenttasks", task["metadata"]["name"])
    scene.until(lambda: all(pod["deleted"] for pod in scene.pods() if pod["uid"] in used))
    scene.until(scene.present, lambda there: there["agenttasks"] == 0 and there["pods"] == 2)
    scene.check("tasks deleted mid-run", reasons={})


@pytest.mark.timeout(180)
def test_B13_a_pool_deleted_while_its_sandboxes_run_leaves_no_pod(scene: Scene) -> None:
    scene.open(pool=2)
    scene.operate()
    scene.warm_up(2)
    scene.submit([workload.call(f"warm-{n}", seconds="10") for n in range(2)])
    used = scene.until(scene.running, lambda pods: len(pods) == 2)
    scene.harness.call("take", pods=[pod["uid"] for pod in used])
    scene.delete("sandboxpools", "pool")
    scene.finish()
    scene.until(scene.present, lambda there: there["pods"] == 0)
    reasons = {str(status["reason"]) for status in scene.statuses().values()}
    assert len(reasons) == 1
    scene.check("pool deleted mid-run", reasons={reasons.pop(): 2})


@pytest.mark.timeout(240)
def test_B13_a_namespace_deleted_mid_run_goes_and_the_operator_goes_on(scene: Scene) -> None:
    scene.open(pool=2)
    scene.operate()
    scene.warm_up(2)
    scene.submit([workload.call("warm", seconds=_LONG), workload.cold("cold", seconds=_LONG)])
    scene.until(lambda: len(scene.running()) == 2)
    path = f"/api/v1/namespaces/{scene.namespace}"
    scene.ask("DELETE", path)
    scene.until(lambda: scene.ask("GET", path).get("error") == 404, seconds=120)
    assert scene.harness.call("operator", name="a")["starts"] == 1
    scene.check("namespace deleted mid-run", reasons={})


@pytest.mark.timeout(180)
def test_B13_the_same_name_again_while_the_old_pod_ends_never_adopts_it(scene: Scene) -> None:
    scene.open()
    scene.operate()
    first = scene.submit([workload.cold("same", seconds=_LONG)])
    old = scene.until(scene.running)[0]
    scene.delete("agenttasks", "same")
    second = scene.submit([workload.cold("same")])
    scene.finish()
    assert first != second
    new = scene.statuses()["same"]
    assert new["sandbox"]["podUID"] != old["uid"]
    assert new["reason"] == "Completed"
    scene.until(scene.present, lambda there: there["pods"] == 0)
    scene.check("the same name again", reasons={"Completed": 1})


@pytest.mark.timeout(180)
def test_B13_a_foreign_pod_of_the_attempts_name_is_not_adopted(scene: Scene) -> None:
    scene.open()
    (uid,) = scene.submit([workload.cold("mine")])
    name = cold_pod_name("mine", uid, "main", 1)
    foreign = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"corral.dev/sandbox": "true"}},
        "spec": {
            "containers": [{"name": "sandbox", "image": SANDBOX_IMAGE, "command": ["/bin/sleep", "600"]}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    scene.ask("POST", scene.path("pods", core=True), foreign)
    scene.operate()
    scene.finish()
    scene.check("a foreign pod of the same name", reasons={"SandboxFailed": 1})
    assert scene.present()["pods"] == 1, "a pod that belongs to somebody else was taken away"


@pytest.mark.timeout(240)
def test_B13_without_any_operator_runners_end_and_pods_go_with_their_owners(scene: Scene) -> None:
    scene.open(pool=2)
    scene.operate(linger_seconds=3)
    scene.warm_up(2)
    scene.submit([workload.cold("cold", seconds="10")])
    scene.until(scene.running)
    scene.submit([workload.call("warm", seconds="4")])
    used = [pod["name"] for pod in scene.until(scene.running, lambda pods: len(pods) == 2)]
    scene.harness.call("stop", name="a", number=int(signal.SIGKILL))
    paths = [scene.path("pods", name, core=True) for name in used]
    scene.until(
        lambda: [scene.ask("GET", path)["status"]["phase"] for path in paths],
        lambda phases: set(phases) <= {"Succeeded", "Failed"},
    )
    for plural, name in (("agenttasks", "warm"), ("agenttasks", "cold"), ("sandboxpools", "pool")):
        scene.delete(plural, name)
    scene.until(scene.present, lambda there: there == {"pods": 0, "agenttasks": 0})
    scene.check("operator gone with tasks running", reasons={})
