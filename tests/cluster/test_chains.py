"""M1: chains on a cluster, each step in a sandbox of its own."""

from typing import Any

from cluster.api import Object
from cluster.tenant import Tenant, reason_of


def calculate(name: str, expression: str, **more: Any) -> Object:
    return {"name": name, "tool": "calculator", "arguments": {"expression": expression}, **more}


def python(name: str, code: str, **more: Any) -> Object:
    return {"name": name, "tool": "python", "arguments": {"code": code}, **more}


def by_name(task: Object) -> dict[str, Object]:
    return {execution["name"]: execution for execution in task["status"]["executions"]}


def test_M1_sequential_steps_use_earlier_results_each_in_its_own_pod(warm: Tenant) -> None:
    task = warm.run(
        steps=[
            python("list", "{'values': [1, 2, 3]}"),
            calculate("sum", "$(steps.list.result.values.1) + $(steps.list.result.values.2)"),
            python("whole", "(type($(steps.list.result)).__name__, '$(steps.sum.result)')"),
        ]
    )
    assert reason_of(task) == "Completed", task["status"]
    steps = by_name(task)
    assert list(steps) == ["list", "sum", "whole"]
    assert steps["sum"]["result"] == 5
    assert len({step["sandbox"]["podUID"] for step in steps.values()}) == 3
    assert steps["list"]["timings"]["finished"] <= steps["sum"]["timings"]["started"]


def test_M1_parallel_steps_run_at_the_same_time(warm: Tenant) -> None:
    warm.pool_is_full(4)
    code = "import time; time.sleep(3)"
    task = warm.run(
        strategy="Parallel",
        steps=[python("a", code), python("b", code), calculate("c", "1", dependsOn=["a", "b"])],
    )
    assert reason_of(task) == "Completed", task["status"]
    a, b, c = (by_name(task)[name]["timings"] for name in "abc")
    assert max(a["started"], b["started"]) < min(a["finished"], b["finished"])
    assert c["started"] >= max(a["finished"], b["finished"])


def test_M1_a_failed_step_stops_the_chain_unless_it_may_fail(warm: Tenant) -> None:
    stopped = warm.start(steps=[calculate("bad", "1 / 0"), calculate("next", "1")])
    went_on = warm.start(steps=[calculate("bad", "1 / 0", onFailure="Continue"), calculate("next", "1")])
    task = warm.ended(stopped)
    assert reason_of(task) == "StepFailed"
    assert "bad" in task["status"]["message"]
    assert list(by_name(task)) == ["bad"]
    task = warm.ended(went_on)
    assert by_name(task)["bad"]["reason"] == "ToolError"
    assert by_name(task)["next"]["reason"] == "Completed"
    assert reason_of(task) == "Completed"


def test_M1_a_step_has_limits_of_its_own(warm: Tenant) -> None:
    task = warm.run(
        limits={"timeout": "20s"},
        steps=[python("quick", "import time; time.sleep(30)", limits={"timeout": "500ms"})],
    )
    assert by_name(task)["quick"]["reason"] == "DeadlineExceeded"
    assert by_name(task)["quick"]["limit"]["value"] == 0.5


def test_M1_cancel_ends_a_chain_where_it_stands(warm: Tenant) -> None:
    name = warm.start(
        steps=[
            python("long", "import time; print('here', flush=True); time.sleep(60)"),
            calculate("next", "1"),
        ]
    )
    warm.running(name)
    warm.cancel(name)
    task = warm.ended(name)
    assert reason_of(task) == "Cancelled"
    assert list(by_name(task)) == ["long"]
    assert by_name(task)["long"]["reason"] == "Cancelled"


def test_M1_a_reference_that_leads_nowhere_is_named(warm: Tenant) -> None:
    task = warm.run(steps=[python("list", "[1]"), calculate("far", "$(steps.list.result.7)")])
    assert by_name(task)["far"]["reason"] == "InvalidArguments"
    assert "$(steps.list.result.7)" in by_name(task)["far"]["message"]
