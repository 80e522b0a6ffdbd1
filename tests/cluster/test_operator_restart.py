"""B13: the operator dies, or is not there: every execution starts once, every result arrives, nothing is stuck."""

from datetime import UTC, datetime

from cluster.api import Object
from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of
from cluster.watching import Watch

#: Says whether it was ever run here before.
ONCE = "import os, time; print('ran', os.path.exists('ran'), flush=True); open('ran', 'x'); time.sleep({}); 'done'"


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _was_run_once(task: Object, before: Object) -> None:
    execution, earlier = main_of(task), main_of(before)
    assert (execution["reason"], execution["attempt"], execution["result"]) == ("Completed", 1, "done"), (
        execution
    )
    assert execution["sandbox"]["podUID"] == earlier["sandbox"]["podUID"]
    (line,) = execution["output"]["stdout"].splitlines()
    assert line.endswith(" False")


def test_B13_killed_in_the_middle_of_runs(tenant: Tenant, operator: Installation) -> None:
    tenant.pool(2, whenEmpty="Cold")
    names = [tenant.python(ONCE.format(8), limits={"timeout": "100s"}) for _ in range(3)]
    chain = tenant.start(
        steps=[
            {"name": "first", "tool": "python", "arguments": {"code": "import time; time.sleep(5); 20"}},
            {
                "name": "second",
                "tool": "calculator",
                "arguments": {"expression": "$(steps.first.result) + 1"},
            },
        ]
    )
    before = {name: tenant.running(name) for name in names}
    tenant.running(chain)
    operator.kill()
    for name in names:
        _was_run_once(tenant.ended(name), before[name])
    task = tenant.ended(chain)
    assert [execution["result"] for execution in task["status"]["executions"]] == [20, 21]
    tenant.pool_is_full(2)
    tenant.pods.until(lambda seen: len(seen.now) == 2)


def test_B13_what_happened_while_it_was_away(tenant: Tenant, operator: Installation) -> None:
    tenant.pool(2, whenEmpty="Cold")
    ends = tenant.python(ONCE.format(1), limits={"timeout": "100s"})
    deleted = tenant.python(ONCE.format(300), limits={"timeout": "300s"})
    cancelled = tenant.python(ONCE.format(300), limits={"timeout": "300s"})
    before = {name: tenant.running(name) for name in (ends, deleted, cancelled)}
    pods = {name: main_of(task)["sandbox"]["podName"] for name, task in before.items()}
    with operator.away():
        tenant.kubectl("delete", "at", deleted, "--timeout=10s")  # nothing holds it up
        tenant.cancel(cancelled)
        created = tenant.start("calculator", arguments={"expression": "6 * 7"})
        early = (
            tenant.ended(ends) if (tenant.tasks.now[ends].get("status") or {}).get("completionTime") else None
        )
        back = _now()
    task = tenant.ended(ends)
    _was_run_once(task, before[ends])
    assert early is not None or main_of(task)["timings"]["finished"] < back, (
        "the tool had ended while nobody was there"
    )
    assert main_of(tenant.ended(created))["result"] == 42
    assert reason_of(tenant.ended(cancelled)) == "Cancelled"

    def gone(seen: Watch) -> bool:
        return not set(pods.values()) & set(seen.now)

    tenant.pods.until(gone, seconds=60)
    tenant.pool_is_full(2)
