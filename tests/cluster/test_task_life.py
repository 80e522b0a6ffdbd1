"""M1: the life of a task: cancelled, deleted, out of time, tidied away, tried again."""

from datetime import datetime

from cluster.api import Object
from cluster.tenant import Tenant, condition_of, main_of, reason_of
from cluster.watching import Watch
from eventually import eventually

FOREVER = "import time; print('partial', flush=True); time.sleep(300)"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_M1_cancel_keeps_what_was_printed(warm: Tenant) -> None:
    name = warm.shell("echo partial; touch begun; sleep 300", limits={"timeout": "300s"})
    pod = warm.has_begun(name)
    warm.kubectl("patch", "at", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    task = warm.ended(name, seconds=60)
    assert reason_of(task) == "Cancelled"
    assert task["status"]["phase"] == "Cancelled"
    assert main_of(task)["output"]["stdout"] == "partial\n"
    assert condition_of(task, "Finished")["reason"] == "Cancelled"
    warm.pods.until(lambda seen: pod not in seen.now)


def test_M1_cancel_before_anything_ran(tenant: Tenant) -> None:
    name = tenant.python("1", cancel=True)
    task = tenant.ended(name)
    assert reason_of(task) == "Cancelled"
    assert tenant.pods.names() == set()


def test_M1_delete_in_the_middle_leaves_no_pod(tenant: Tenant) -> None:
    cold = tenant.python(FOREVER)
    tenant.running(cold)
    early = tenant.python(FOREVER)
    tenant.kubectl("delete", "at", cold, early, "--timeout=20s")
    tenant.no_pod_left(seconds=30)
    assert tenant.tasks.until(lambda seen: not seen.now or None) is True


def test_M1_delete_in_the_middle_ends_a_warm_sandbox(warm: Tenant) -> None:
    name = warm.python(FOREVER)
    pod = warm.running(name)["status"]["sandbox"]["podName"]
    warm.kubectl("delete", "at", name, "--timeout=20s")
    warm.pods.until(lambda seen: pod not in seen.now)


def test_M1_delete_of_the_namespace_in_the_middle_gets_stuck_nowhere(tenant: Tenant) -> None:
    tenant.create("SandboxPool", "pool", spec={"replicas": 1})
    name = tenant.python(FOREVER)
    tenant.running(name)
    tenant.delete()
    eventually(lambda: tenant.api.find("Namespace", "", tenant.name) is None, seconds=90)


def test_M1_an_ended_task_goes_when_its_time_is_over(warm: Tenant) -> None:
    name = warm.start("calculator", arguments={"expression": "1"}, ttlSecondsAfterFinished=2)
    ended = warm.ended(name)

    def gone(seen: Watch) -> bool:
        return name not in seen.now

    warm.tasks.until(gone)
    kinds = [kind for kind, item in warm.tasks.history if item["metadata"]["name"] == name]
    assert kinds[-1] == "DELETED"
    assert reason_of(ended) == "Completed"


def test_M1_activeDeadlineSeconds_bounds_the_whole_task(warm: Tenant) -> None:
    name = warm.shell("echo partial; sleep 300", limits={"timeout": "300s"}, activeDeadlineSeconds=3)
    task = warm.ended(name)
    assert reason_of(task) == "DeadlineExceeded"
    assert "activeDeadlineSeconds" in task["status"]["message"]
    assert main_of(task)["reason"] == "DeadlineExceeded"
    assert main_of(task)["output"]["stdout"] == "partial\n"
    took = _moment(task["status"]["completionTime"]) - _moment(task["metadata"]["creationTimestamp"])
    assert 3 <= took < 60


def test_M1_the_order_of_times_is_the_order_of_things(warm: Tenant) -> None:
    task = warm.run("calculator", arguments={"expression": "1"})
    times = main_of(task)["timings"]
    assert times["queued"] <= times["claimed"] <= times["started"] <= times["finished"]
    assert _moment(task["status"]["startTime"]) <= _moment(task["status"]["completionTime"])
    assert task["status"]["observedGeneration"] == task["metadata"]["generation"]


def test_M1_a_retry_needs_a_declared_reason_an_idempotent_tool_and_waits(tenant: Tenant) -> None:
    """The cause is one outside the tool: somebody deletes its pod."""
    code = {"function": {"code": "import time\ndef main():\n    time.sleep(300)\n"}}
    tenant.tool("again", run=code, idempotent=True)
    tenant.tool("once", run=code)
    retry = {"maxAttempts": 2, "reasons": ["SandboxFailed"], "backoff": "2s"}
    tried = {
        "again": tenant.start("again", retry=retry),
        "once": tenant.start("once", retry=retry),
        "undeclared": tenant.start("again", retry={**retry, "reasons": ["Evicted"]}),
    }
    first = {}
    for what, name in tried.items():
        first[what] = tenant.running(name)["status"]["sandbox"]["podName"]
    _ = tenant.pods
    tenant.kubectl("delete", "pod", *first.values(), "--wait=false")
    for what in ("once", "undeclared"):
        task = tenant.ended(tried[what])
        assert (reason_of(task), task["status"]["attempt"]) == ("SandboxFailed", 1), what

    def second(seen: Watch) -> Object | None:
        task = seen.now[tried["again"]]
        execution = main_of(task)
        return task if execution["attempt"] == 2 and "sandbox" in execution else None

    task = tenant.tasks.until(second, seconds=60)
    assert task is not None
    assert main_of(task)["sandbox"]["podName"] != first["again"]
    assert "attempt 1 ended with SandboxFailed" in tenant.noted(tried["again"], "Retrying")
    failed = next(v for v in tenant.tasks.versions(tried["again"]) if v.get("status", {}).get("attempt") == 2)
    pause = _moment(main_of(task)["timings"]["claimed"]) - _moment(main_of(failed)["timings"]["queued"])
    assert pause >= 0, "it began before its backoff was over"
    tenant.cancel(tried["again"])
    assert tenant.ended(tried["again"])["status"]["attempt"] == 2
