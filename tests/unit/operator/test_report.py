"""The status of a task as people and programs read it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from corral.api import AgentTaskStatus, Condition, Phase, Reason, WhenEmpty, phase_of, time_text
from corral.cluster.port import ObjectKey
from corral_operator.decisions.actions import Plan, Tell
from corral_operator.decisions.observed import RunView
from corral_operator.decisions.task import decide
from corral_operator.decisions.task_view import FinishedTask, TaskView, task_of
from unit.operator.factories import NOW
from unit.operator.task_factories import (
    RULES,
    TASK,
    again,
    observed,
    of_type,
    pool,
    result,
    task,
    task_body,
    warm,
)

BOX = warm()


def _status(plan: Plan) -> AgentTaskStatus:
    assert plan.status is not None
    return plan.status


def _conditions(status: AgentTaskStatus) -> list[tuple[str, str, str, str]]:
    return [(one.type, one.status.value, one.reason, one.message) for one in status.conditions]


def test_M1_the_conditions_of_a_task_that_runs_and_ends() -> None:
    view = task()
    running = decide(view, observed(pools=(pool(BOX),)), NOW, RULES)
    assert _conditions(_status(running)) == [
        ("Accepted", "True", "Accepted", ""),
        ("Started", "True", "SandboxAssigned", ""),
    ]
    assert (_status(running).phase, _status(running).start_time) == (Phase.RUNNING, time_text(NOW))
    later = NOW + timedelta(seconds=5)
    run = RunView(ended=result(value=1), began=True)
    ended = _status(decide(again(view, running), observed(BOX, runs={"main": run}), later, RULES))
    assert _conditions(ended) == [
        ("Accepted", "True", "Accepted", ""),
        ("Started", "True", "SandboxAssigned", ""),
        ("Finished", "True", "Completed", ""),
    ]
    assert [one.last_transition_time for one in ended.conditions] == [time_text(NOW)] * 2 + [time_text(later)]
    assert (ended.start_time, ended.completion_time) == (time_text(NOW), time_text(later))
    assert (ended.observed_generation, ended.attempt, ended.queue_position) == (1, 1, None)


def test_M1_a_status_reads_back_as_it_was_written() -> None:
    view = task()
    status = _status(decide(view, observed(pools=(pool(BOX),)), NOW, RULES))
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert AgentTaskStatus.model_validate(wire) == status


def test_M1_a_condition_keeps_the_time_of_its_last_change() -> None:
    seen = {"pools": (pool(empty=WhenEmpty.QUEUE),), "seen": NOW - timedelta(seconds=10)}
    first = decide(task(), observed(**seen), NOW, RULES)
    waits = again(task(), first)
    later = decide(waits, observed(pools=(pool(BOX),)), NOW + timedelta(seconds=3), RULES)
    times = {one.type: one.last_transition_time for one in _status(later).conditions}
    assert times == {"Accepted": time_text(NOW), "Started": time_text(NOW + timedelta(seconds=3))}


def test_M1_a_task_that_never_started_says_that_nothing_ran() -> None:
    status = _status(decide(task({"tool": "unknown"}), observed(), NOW, RULES))
    message = status.message or ""
    assert _conditions(status) == [
        ("Accepted", "False", "ToolNotFound", message),
        ("Started", "False", "ToolNotFound", "nothing ran"),
        ("Finished", "True", "ToolNotFound", message),
    ]
    assert (status.start_time, status.sandbox) == (None, None)


@pytest.mark.parametrize(
    ("reason", "phase"),
    [(Reason.COMPLETED, Phase.SUCCEEDED), (Reason.CANCELLED, Phase.CANCELLED)]
    + [(one, Phase.FAILED) for one in Reason if one not in {Reason.COMPLETED, Reason.CANCELLED}],
)
def test_M1_the_phase_of_each_reason(reason: Reason, phase: Phase) -> None:
    assert phase_of(reason) is phase


def test_B2_every_end_but_a_good_one_is_told_as_an_event() -> None:
    view = again(task(), decide(task(), observed(pools=(pool(BOX),)), NOW, RULES))
    for reason in (Reason.TOOL_ERROR, Reason.COMPLETED):
        run = RunView(ended=result(reason), began=True)
        plan = decide(view, observed(BOX, runs={"main": run}), NOW, RULES)
        expected = (
            [] if reason is Reason.COMPLETED else [Tell("Warning", "ToolError", "it ended with ToolError")]
        )
        assert of_type(plan, Tell) == expected


def test_M1_a_message_longer_than_a_condition_takes_is_cut_and_the_status_can_be_written() -> None:
    view = again(task(), decide(task(), observed(pools=(pool(BOX),)), NOW, RULES))
    ended = result(Reason.TOOL_ERROR).model_copy(update={"message": "é" * 70_000})
    plan = decide(view, observed(BOX, runs={"main": RunView(ended=ended, began=True)}), NOW, RULES)
    for condition in _status(plan).conditions:
        Condition.model_validate(condition.model_dump(by_alias=True))


# --- the queue position ---


def _queued(position: int, told: int | None, told_ago: float | None) -> Plan:
    seen: dict[str, Any] = {"pools": (pool(empty=WhenEmpty.QUEUE),), "seen": NOW - timedelta(seconds=10)}
    first = decide(task(), observed(positions={"main": told} if told else {}, **seen), NOW, RULES)
    told_at = None if told_ago is None else NOW - timedelta(seconds=told_ago)
    seen |= {"positions": {"main": position}, "position_told": told_at}
    return decide(again(task(), first), observed(**seen), NOW, RULES)


def test_M4_a_position_that_was_told_lately_stands_and_is_looked_at_when_it_is_old() -> None:
    plan = _queued(3, told=5, told_ago=2)
    assert plan.status is None
    assert plan.wake_at == NOW + timedelta(seconds=3)


@pytest.mark.parametrize(("told", "told_ago"), [(5, 5.0), (5, None), (None, None)])
def test_M4_a_position_is_told_when_the_last_one_is_old_or_nobody_knows(
    told: int | None, told_ago: float | None
) -> None:
    assert _status(_queued(3, told, told_ago)).queue_position == 3


def test_M4_a_position_that_did_not_change_is_not_written_again() -> None:
    assert _queued(3, told=3, told_ago=60).status is None


# --- tasks that are wrong ---


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({}, "spec"),
        ({"tool": "once", "priority": "high"}, "spec.priority"),
        ({"tool": "once", "limits": {"memory": "much"}}, "spec.limits.memory"),
        ({"tool": "once", "unknown": 1}, "spec.unknown"),
        ({"steps": [{"name": "a", "tool": "once", "dependsOn": ["b"]}]}, "spec.steps[0].dependsOn[0]"),
        ({"tool": "once", "retry": {"reasons": ["ToolError"]}}, "spec.retry.reasons[0]"),
        ({"tool": "once", "agent": {"prompt": "x"}}, "spec"),
    ],
)
def test_M2_a_wrong_spec_ends_the_task_and_names_the_field(spec: Mapping[str, Any], where: str) -> None:
    view = task(spec)
    assert view.spec is None
    assert view.problem_field == where
    plan = decide(view, observed(pools=(pool(BOX),)), NOW, RULES)
    assert _status(plan).reason is Reason.INVALID_SPEC
    assert (_status(plan).message or "").startswith(f"{where}: ")
    assert (plan.claims, of_type(plan, Tell)) == ((), list(plan.actions))


def test_M2_a_spec_that_is_no_object_ends_the_task_too() -> None:
    body = task_body({})
    body["spec"] = ["tool"]
    view = task_of(body)
    assert isinstance(view, TaskView)
    assert _status(decide(view, observed(), NOW, RULES)).reason is Reason.INVALID_SPEC


def test_M1_a_wrong_spec_of_a_task_that_runs_leaves_no_execution_open() -> None:
    running = again(task(), decide(task(), observed(pools=(pool(BOX),)), NOW, RULES))
    wrong = replace(running, spec=None, problem="spec.x: unknown", problem_field="spec.x")
    status = _status(decide(wrong, observed(BOX), NOW, RULES))
    assert status.reason is Reason.INVALID_SPEC
    assert all(execution.reason is not None for execution in status.executions)


def test_M1_an_agents_task_is_left_to_the_gateway() -> None:
    plan = decide(task({"agent": {"prompt": "hi"}}), observed(), NOW, RULES)
    assert _status(plan).reason is Reason.UNSUPPORTED
    assert "gateway" in (_status(plan).message or "")


def test_M1_a_task_that_is_being_deleted_is_left_alone() -> None:
    assert decide(task(deletionTimestamp=time_text(NOW)), observed(pools=(pool(BOX),)), NOW, RULES) == Plan()


@pytest.mark.parametrize(
    "status",
    [
        {"executions": [{"name": "main"}]},
        {"executions": "none"},
        {"conditions": [{"type": "Started"}]},
        {"unknown": True},
        {"executions": [{"name": "main", "tool": "once", "timings": {"queued": "yesterday"}}]},
    ],
)
def test_B13_nothing_is_started_for_a_task_whose_status_cannot_be_read(status: dict[str, Any]) -> None:
    view = task(None, status)
    assert view.status_problem.startswith("status.")
    plan = decide(view, observed(pools=(pool(BOX),)), NOW, RULES)
    assert plan.status is None
    (tell,) = plan.actions
    assert isinstance(tell, Tell)
    assert (tell.type, tell.reason) == ("Warning", "StatusBroken")
    assert view.status_problem in tell.message


def test_M1_cancel_counts_even_where_the_rest_of_the_spec_is_wrong() -> None:
    assert task({"tool": 7, "cancel": True}).cancel is True
    assert task({"tool": "once", "cancel": "true"}).cancel is False


def test_B4_the_caller_is_the_one_that_the_gateway_stamped() -> None:
    assert task(labels={"corral.dev/caller": "ann"}).caller == "ann"
    assert task().caller == ""


# --- tasks that have ended ---


def test_M1_of_an_ended_task_its_pods_and_its_time_to_live_are_kept() -> None:
    status = {
        "completionTime": time_text(NOW),
        "executions": [
            {"name": "a", "sandbox": {"podName": "p", "podUID": "u"}},
            {"name": "b", "sandbox": {"podName": "q"}},
            {"name": "c"},
        ],
    }
    spec = {"tool": "once", "ttlSecondsAfterFinished": 60}
    assert task_of(task_body(spec, status)) == FinishedTask(
        TASK, (ObjectKey("team", "p", "u"),), NOW + timedelta(seconds=60)
    )
    kept = task_of(task_body({"tool": "once"}, status))
    assert isinstance(kept, FinishedTask)
    assert kept.delete_at is None


@pytest.mark.parametrize("completed", [None, 5, ""])
def test_M1_a_task_without_a_completion_time_has_not_ended(completed: object) -> None:
    status = {} if completed is None else {"completionTime": completed}
    if completed == "":
        with pytest.raises(ValueError, match="isoformat"):
            task_of(task_body({"tool": "once"}, status))
        return
    assert isinstance(task_of(task_body({"tool": "once"}, status)), TaskView)


def test_M1_a_ttl_of_zero_deletes_at_once() -> None:
    spec = {"tool": "once", "ttlSecondsAfterFinished": 0}
    found = task_of(task_body(spec, {"completionTime": time_text(NOW)}))
    assert isinstance(found, FinishedTask)
    assert found.delete_at == NOW


def test_M1_what_the_operator_writes_is_valid_by_its_own_model() -> None:
    view = task()
    plan = decide(view, observed(pools=(pool(BOX),)), NOW, RULES)
    wire = _status(plan).model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        AgentTaskStatus.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        pytest.fail(str(error))
