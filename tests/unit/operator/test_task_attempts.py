"""What becomes of an attempt whose sandbox stands in the status, branch by branch."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from corral.api import Phase, Reason
from corral.cluster.port import ObjectKey
from corral.sandbox.port import Owner
from corral_operator.decisions.actions import Ask, Cancel, CreatePod, DeletePod, Plan, ReadLog, Start, Tell
from corral_operator.decisions.observed import Observed, Printed, RunView
from corral_operator.decisions.task import decide
from corral_operator.decisions.task_view import TaskView
from corral_operator.names import cold_pod_name
from corral_operator.views import PodView
from unit.operator.factories import NOW, RUNNING, pod, terminated
from unit.operator.task_factories import (
    RULES,
    TASK,
    again,
    observed,
    of_type,
    pool,
    result,
    rules,
    task,
    warm,
)

BOX = warm()
COLD = cold_pod_name("job", "task-uid", "main", 1)
RETRY = {"maxAttempts": 2, "backoff": "1s"}


def _running(tool: str = "once", box: PodView = BOX, **spec: Any) -> TaskView:
    """A task whose sandbox stands in the status."""
    view = task({"tool": tool, **spec})
    if box.owner_uid == TASK.uid:
        return again(view, decide(view, observed(box), NOW, RULES))
    return again(view, decide(view, observed(pools=(pool(box),)), NOW, RULES))


def _look(
    view: TaskView, *pods: PodView, run: RunView | None = None, seconds: float = 1, **fields: Any
) -> Plan:
    runs = {} if run is None else {"main": run}
    return decide(view, observed(*pods, runs=runs, **fields), NOW + timedelta(seconds=seconds), RULES)


def test_B13_a_new_operator_tells_the_runner_again_which_is_a_re_attach() -> None:
    plan = _look(_running(), BOX)
    assert plan.status is None
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert (start.pod, start.owner) == (BOX.key, Owner("task-uid/main", 1))
    assert start.request is not None


def test_M1_an_attempt_that_goes_on_costs_nothing() -> None:
    assert _look(_running(), BOX, run=RunView(began=True)) == Plan()


def test_M2_a_runner_whose_pod_looks_lost_is_asked_now_and_then_whether_it_is_there() -> None:
    unready = warm(ready=False)
    plan = _look(_running(), unready, run=RunView(began=True))
    assert plan.actions == (Ask("main"),)
    assert plan.wake_at is not None
    pause = plan.wake_at - (NOW + timedelta(seconds=1))
    asked = RunView(began=True, asked_at=NOW + timedelta(seconds=1))
    assert _look(_running(), unready, run=asked, seconds=2) == Plan(wake_at=plan.wake_at)
    again_asked = _look(_running(), unready, run=asked, seconds=1 + pause.total_seconds())
    assert again_asked.actions == (Ask("main"),)


def test_M2_a_tool_that_was_ended_by_nobody_known_waits_for_the_cluster_to_tell_and_then_ends() -> None:
    run = RunView(ended=result(Reason.CANCELLED, stdout="half"), began=True, over_at=NOW)
    view = _running()
    assert _look(view, BOX, run=run) == Plan(wake_at=NOW + timedelta(seconds=120))
    late = _look(view, BOX, run=run, seconds=120)
    assert late.status is not None
    assert late.status.reason is Reason.SANDBOX_FAILED
    assert late.status.executions[0].output is not None
    assert late.status.executions[0].output.stdout == "half"


def test_M1_the_result_is_written_with_its_sandbox_and_the_pod_goes() -> None:
    run = RunView(
        ended=result(value=42, stdout="hi"),
        began=True,
        told=True,
        isolation=("seccomp",),
        weakened=("ceilings",),
    )
    plan = _look(_running(), BOX, run=run)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.phase) == (Reason.COMPLETED, Phase.SUCCEEDED)
    (main,) = plan.status.executions
    assert (main.result, main.output and main.output.stdout) == (42, "hi")
    assert main.sandbox is not None
    assert (main.sandbox.isolation, main.sandbox.weakened) == (("seccomp",), ("ceilings",))
    assert main.sandbox.pod_uid == BOX.key.uid
    assert plan.actions == (DeletePod(BOX.key, idle=True),)


def test_M2_a_pod_whose_runner_did_not_say_that_its_tool_has_ended_goes_at_once() -> None:
    plan = _look(_running(), BOX, run=RunView(ended=result(Reason.DEADLINE_EXCEEDED), began=True))
    assert of_type(plan, DeletePod) == [DeletePod(BOX.key, idle=False)]


def test_M1_the_plain_warm_path_takes_two_writes() -> None:
    view, writes = task(), 0
    for fields in (
        {"pools": (pool(BOX),)},
        {},
        {"runs": {"main": RunView(began=True)}},
        {"runs": {"main": RunView(ended=result(), began=True)}},
    ):
        plan = decide(view, observed(BOX, **fields), NOW, RULES)
        writes += plan.status is not None
        view = again(view, plan)
    assert (writes, view.status.reason) == (2, Reason.COMPLETED)


@pytest.mark.parametrize(
    ("tool", "began", "retried"),
    [("once", True, False), ("once", False, True), ("again", True, True), ("again", False, True)],
)
def test_M2_after_a_possible_start_only_idempotent_tools_are_retried(
    tool: str, *, began: bool, retried: bool
) -> None:
    run = RunView(ended=result(Reason.SANDBOX_FAILED, tool=tool), began=began)
    plan = _look(_running(tool, retry=RETRY), BOX, run=run)
    assert plan.status is not None
    assert (plan.status.reason is None, plan.status.attempt) == (retried, 2 if retried else 1)
    assert of_type(plan, DeletePod) == [DeletePod(BOX.key)]
    assert bool([a for a in plan.actions if isinstance(a, Tell) and a.reason == "Retrying"]) is retried


@pytest.mark.parametrize("reason", [Reason.TOOL_ERROR, Reason.DEADLINE_EXCEEDED, Reason.OUT_OF_MEMORY])
def test_M2_a_reason_that_lies_with_the_tool_is_never_retried(reason: Reason) -> None:
    run = RunView(ended=result(reason, tool="again"), began=True)
    plan = _look(_running("again", retry=RETRY), BOX, run=run)
    assert plan.status is not None
    assert plan.status.reason is reason


def test_M2_only_the_reasons_that_the_task_names_are_retried_and_only_so_often() -> None:
    run = RunView(ended=result(Reason.SANDBOX_FAILED, tool="again"))
    plan = _look(_running("again", retry={**RETRY, "reasons": ["NodeLost"]}), BOX, run=run)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    plan = _look(_running("again", retry={**RETRY, "maxAttempts": 1}), BOX, run=run)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED


def test_B15_what_a_runner_writes_is_cut_wherever_it_ends_up() -> None:
    told = result(Reason.SANDBOX_FAILED, tool="again").model_copy(update={"message": "\ud800" * 90_000})
    retried = _look(_running("again", retry=RETRY), BOX, run=RunView(ended=told))
    assert retried.status is not None
    assert len(retried.status.executions[0].message or "") < 10_100
    run = RunView(ended=result(), isolation=("i" * 9000,) * 9000, weakened=("\ud800",))
    ended = _look(_running(), BOX, run=run)
    assert ended.status is not None
    assert ended.status.sandbox is not None
    assert (ended.status.sandbox.isolation, ended.status.sandbox.weakened) == (("i" * 64,) * 32, ("?",))
    assert len(ended.status.model_dump_json()) < 20_000


def test_B13_a_sandbox_that_had_served_somebody_else_is_left_and_another_is_taken() -> None:
    other = warm("other")
    run = RunView(never_started="the sandbox has served another task")
    plan = _look(_running(), BOX, run=run, pools=(pool(other),))
    assert plan.status is not None
    (main,) = plan.status.executions
    assert main.sandbox is not None
    assert (main.sandbox.pod_uid, main.attempt) == (other.key.uid, 1)
    assert of_type(plan, DeletePod) == []  # another operator may have given it to whom it serves
    assert [a.pod for a in plan.actions if isinstance(a, Start)] == [other.key]


def test_B13_a_pod_of_its_own_that_never_started_ends_the_attempt_with_nothing_run() -> None:
    box = pod(COLD, state=RUNNING, podIP="10.0.0.8", owner_uid=TASK.uid)
    plan = _look(_running(box=box, retry=RETRY), box, run=RunView(never_started="never told"))
    assert plan.status is not None
    assert (plan.status.reason, plan.status.attempt) == (None, 2)
    assert of_type(plan, DeletePod) == [DeletePod(box.key)]


def test_M2_a_pod_that_is_gone_is_explained_by_how_it_was_last_seen() -> None:
    evicted = warm(phase="Failed", reason="Evicted", message="The node was low on resource: memory.",
                   deleting=True, state=terminated("Error", 137))  # fmt: skip
    plan = _look(_running(), last_seen={"warm": evicted})
    assert plan.status is not None
    assert plan.status.reason is Reason.EVICTED
    unknown = _look(_running(retry=RETRY), absent=frozenset({"warm"}))
    assert unknown.status is not None
    assert unknown.status.reason is Reason.SANDBOX_FAILED, "it may have run, so it is not tried again"


def test_B13_another_pod_of_the_same_name_is_neither_told_to_start_nor_deleted() -> None:
    other = replace(BOX, key=ObjectKey("team", "warm", "another-uid"))
    plan = _look(_running(), other, absent=frozenset({"warm"}))
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    assert not of_type(plan, DeletePod, Start)


def test_M2_a_lost_runner_is_explained_by_its_pod_and_given_time_until_the_pod_tells() -> None:
    run = RunView(lost="connection reset", over_at=NOW)
    view = _running()
    assert _look(view, BOX, run=run) == Plan(wake_at=NOW + timedelta(seconds=120))
    killed = warm(phase="Failed", state=terminated("OOMKilled", 137))
    plan = _look(view, killed, run=run)
    assert plan.status is not None
    assert plan.status.reason is Reason.OUT_OF_MEMORY
    late = _look(view, BOX, run=run, seconds=120)
    assert late.status is not None
    assert late.status.reason is Reason.SANDBOX_FAILED
    assert "connection reset" in (late.status.message or "")


def test_M2_a_tool_ended_by_the_pods_deletion_has_the_pods_reason_and_keeps_what_it_printed() -> None:
    drained = warm(deleting=True, disruption="EvictionByEvictionAPI")
    run = RunView(ended=result(Reason.CANCELLED, stdout="half"), began=True)
    plan = _look(_running(), drained, run=run)
    assert plan.status is not None
    (main,) = plan.status.executions
    assert (plan.status.reason, main.reason) == (Reason.EVICTED, Reason.EVICTED)
    assert main.output is not None
    assert main.output.stdout == "half"


# --- stopped from outside ---


def _stopped(view: TaskView) -> TaskView:
    return replace(view, cancel=True)


def test_M1_cancel_asks_the_runner_then_waits_then_takes_the_pod_away() -> None:
    view = _stopped(_running())
    asked = _look(view, BOX, run=RunView(began=True))
    assert (asked.actions, asked.wake_at) == ((Cancel("main"),), NOW + timedelta(seconds=11))
    waits = _look(view, BOX, run=RunView(began=True, cancelled_at=NOW))
    assert (waits.actions, waits.wake_at) == ((), NOW + timedelta(seconds=10))
    late = _look(view, BOX, run=RunView(began=True, cancelled_at=NOW), seconds=10)
    assert late.actions == (DeletePod(BOX.key),)


def test_M1_a_cancelled_task_ends_when_its_tool_has_and_keeps_what_it_printed() -> None:
    run = RunView(ended=result(Reason.CANCELLED, stdout="half"), began=True, told=True)
    plan = _look(_stopped(_running()), BOX, run=run)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.phase) == (Reason.CANCELLED, Phase.CANCELLED)
    assert plan.status.executions[0].output is not None
    assert plan.status.executions[0].output.stdout == "half"
    assert of_type(plan, DeletePod) == [DeletePod(BOX.key, idle=True)]


def test_M2_a_tool_cancelled_for_the_deadline_says_so() -> None:
    view = replace(_running(activeDeadlineSeconds=30), created=NOW - timedelta(seconds=40))
    plan = _look(view, BOX, run=RunView(ended=result(Reason.CANCELLED), began=True))
    assert plan.status is not None
    assert (plan.status.reason, plan.status.executions[0].reason) == (Reason.DEADLINE_EXCEEDED,) * 2


def test_B13_nothing_is_started_after_a_cancel_by_an_operator_that_does_not_know_what_was() -> None:
    plan = _look(_stopped(_running()), BOX)
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert start.request is None, "only what runs already is followed"
    ended = _look(_stopped(_running()), BOX, run=RunView(never_started="never told"))
    assert ended.status is not None
    assert ended.status.reason is Reason.CANCELLED
    # Another operator may have given the sandbox to somebody else: whom it serves keeps it, and it is none of ours.
    assert of_type(ended, DeletePod) == [DeletePod(BOX.key)]
    assert ended.status.executions[0].sandbox is None


def test_M1_cancel_before_the_first_write_leaves_no_pod_behind() -> None:
    box = pod(COLD, phase="Pending", owner_uid=TASK.uid)
    plan = decide(_stopped(task()), observed(box, made=frozenset({"main"})), NOW, RULES)
    assert plan.status is not None
    assert plan.status.reason is Reason.CANCELLED
    assert of_type(plan, DeletePod) == [DeletePod(box.key)]


@pytest.mark.parametrize("pods", [(), (BOX,)])
def test_M1_a_cancelled_task_whose_runner_is_lost_ends(pods: tuple[PodView, ...]) -> None:
    plan = _look(_stopped(_running(retry=RETRY)), *pods, run=RunView(lost="gone", over_at=NOW))
    assert plan.status is not None
    assert plan.status.reason is Reason.CANCELLED
    assert not of_type(plan, Start, CreatePod)


def test_M2_the_deadline_is_looked_at_when_it_comes() -> None:
    view = replace(_running(activeDeadlineSeconds=60), created=NOW)
    assert _look(view, BOX, run=RunView(began=True)).wake_at == NOW + timedelta(seconds=60)
    assert _look(view, BOX, run=RunView(began=True), seconds=60).actions == (Cancel("main"),)


# --- programs ---


def _program(tool: str = "program", **spec: Any) -> TaskView:
    view = task({"tool": tool, **spec})
    return again(view, decide(view, observed(), NOW, RULES))


def _container(state: dict[str, Any], **fields: Any) -> PodView:
    return pod(COLD, state=state, owner_uid=TASK.uid, **fields)


def test_B13_a_program_that_this_operator_assigned_is_made_and_one_that_another_assigned_is_not() -> None:
    plan = _look(_program(), assigned=frozenset({"main"}))
    assert [type(action) for action in plan.actions] == [CreatePod]
    plan = _look(_program(), absent=frozenset({COLD}))
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED, "its pod may have run and gone"
    assert not of_type(plan, CreatePod)
    plan = _look(_program("program-again"), absent=frozenset({COLD}))
    assert [type(action) for action in plan.actions] == [CreatePod], "it may run twice"


@pytest.mark.parametrize("tool", ["once", "program"])
def test_B13_a_pod_that_no_watch_has_told_of_yet_is_not_taken_for_gone(tool: str) -> None:
    view = _program() if tool == "program" else _running()
    assert _look(view) == Plan()


def test_B13_a_program_seen_running_has_its_pod_written_down_and_ends_at_its_timeout() -> None:
    box = _container(RUNNING)
    plan = _look(_program(), box)
    assert plan.status is not None
    assert plan.status.executions[0].sandbox is not None
    assert plan.status.executions[0].sandbox.pod_uid == box.key.uid
    assert plan.wake_at == NOW + timedelta(seconds=60)
    late = _look(again(_program(), plan), box, seconds=60)
    assert late.status is None
    assert late.actions == (ReadLog("main", 1, box.key, final=False),)
    late = _look(again(_program(), plan), box, seconds=60, logs={"main": Printed("begun", final=False)})
    assert late.status is not None
    assert late.status.executions[0].output is not None
    assert late.status.executions[0].output.stdout == "begun"
    assert late.status.reason is Reason.DEADLINE_EXCEEDED
    assert of_type(late, DeletePod) == [DeletePod(box.key)]


def test_M1_a_programs_log_is_waited_for_and_is_its_result() -> None:
    box = _container(terminated("Completed", 0), phase="Succeeded")
    assert _look(_program(), box).actions == (ReadLog("main", 1, box.key, final=True),)
    plan = _look(_program(), box, logs={"main": Printed("out", "err")})
    assert plan.status is not None
    (main,) = plan.status.executions
    assert (main.reason, main.exit_code, main.result) == (Reason.COMPLETED, 0, "out")
    assert plan.actions == (DeletePod(box.key, idle=True),)


def test_B13_what_a_program_had_printed_by_its_deadline_is_not_the_result_of_one_that_ended_meanwhile() -> (
    None
):
    box = _container(terminated("Completed", 0), phase="Succeeded")
    plan = _look(_program(), box, logs={"main": Printed("half", final=False)})
    assert plan.actions == (ReadLog("main", 1, box.key, final=True),)


def test_B13_a_program_whose_log_could_not_be_read_has_not_completed() -> None:
    box = _container(terminated("Completed", 0), phase="Succeeded")
    plan = _look(_program(), box, logs={"main": Printed(problem="503")})
    assert plan.status is not None
    (main,) = plan.status.executions
    assert (main.reason, main.exit_code, main.result) == (Reason.SANDBOX_FAILED, 0, None)
    assert main.message == "the program ended well, but its result, the log, could not be read: 503"
    assert main.output is not None
    assert main.output.stderr == "(the log could not be read: 503)"


@pytest.mark.parametrize(
    ("state", "reason", "exit_code", "signal"),
    [
        (terminated("Error", 3), Reason.TOOL_ERROR, 3, None),
        (terminated("Error", 139), Reason.TOOL_ERROR, None, 11),
        (terminated("OOMKilled", 137), Reason.OUT_OF_MEMORY, None, 9),
        (terminated("StartError", 128), Reason.TOOL_ERROR, 128, None),
        (terminated("ContainerStatusUnknown", 137), Reason.NODE_LOST, None, None),
    ],
)
def test_M2_how_a_program_ended_is_read_off_its_container(
    state: dict[str, Any], reason: Reason, exit_code: int | None, signal: int | None
) -> None:
    plan = _look(_program(), _container(state, phase="Failed"), logs={"main": Printed("some")})
    assert plan.status is not None
    (main,) = plan.status.executions
    assert (main.reason, main.exit_code, main.signal) == (reason, exit_code, signal)
    assert main.output is not None
    assert main.output.stdout == "some"


def test_M2_a_program_that_its_node_could_not_start_has_not_run_and_gets_another_pod() -> None:
    frozen = terminated("StartError", 128, message="error during container init: unable to freeze")
    plan = _look(_program(), _container(frozen, phase="Failed"), logs={"main": Printed("")})
    assert plan.status is not None
    (main,) = plan.status.executions
    assert (main.reason, main.attempt, main.exit_code) == (None, 2, None)


@pytest.mark.parametrize("reason", ["UnexpectedAdmissionError", "NodeAffinity", "OutOfcpu"])
def test_B13_what_a_kubelet_that_came_back_refuses_may_have_run_before(reason: str) -> None:
    """Its container's state is lost then; without leave to repeat it is not run again."""
    refused = {"phase": "Failed", "reason": reason}
    lost = RunView(lost="the pod has ended", began=True, over_at=NOW)
    plans = [
        _look(_running(retry=RETRY), warm(ready=False, state={}, **refused), run=lost),
        _look(_program(retry=RETRY), _container({}, **refused)),
    ]
    for plan in plans:
        assert plan.status is not None
        assert plan.status.attempt == 1
        assert plan.status.reason in {Reason.SANDBOX_FAILED, Reason.UNSCHEDULABLE}


def test_B13_a_program_whose_start_was_given_up_may_have_begun_and_is_not_replaced() -> None:
    late = terminated("StartError", 128, message="failed to start shim: context deadline exceeded")
    plan = _look(_program(), _container(late, phase="Failed"), logs={"main": Printed("")})
    assert plan.status is not None
    assert (plan.status.reason, plan.status.attempt) == (Reason.SANDBOX_FAILED, 1)


def test_B13_a_program_that_was_seen_waiting_may_have_begun_since_and_is_not_retried() -> None:
    box = _container({"waiting": {"reason": "ContainerCreating"}}, phase="Pending", age=400)
    plan = _look(_program(retry=RETRY), box)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    plan = _look(_program("program-again", retry=RETRY), box)
    assert plan.status is not None
    assert plan.status.attempt == 2


def test_M1_a_program_that_got_its_node_late_is_looked_at_again_in_the_future() -> None:
    late = replace(
        _container({"waiting": {"reason": "ContainerCreating"}}, phase="Pending", age=400),
        scheduled_at=NOW - timedelta(seconds=5),
    )
    plan = _look(_program(), late)
    assert plan.wake_at == NOW + timedelta(seconds=295)


def test_M1_a_program_goes_on_when_its_tool_was_deleted_meanwhile() -> None:
    box = _container(RUNNING)
    seen = observed(box)
    plan = decide(_program(), seen, NOW, rules(tools=()))
    assert not of_type(plan, Start, DeletePod)
    ended = _container(terminated("Completed", 0), phase="Succeeded")
    plan = decide(
        _program(), Observed(NOW, {COLD: ended}, logs={"main": Printed("out", "err")}), NOW, rules(tools=())
    )
    assert plan.status is not None
    assert plan.status.executions[0].output is not None
    assert plan.status.executions[0].output.stdout == "out"


@pytest.mark.parametrize("there", [True, False])
def test_M1_a_cancelled_program_ends_at_once_and_its_pod_goes(*, there: bool) -> None:
    box = _container(RUNNING)
    plan = _look(_stopped(_program()), *([box] if there else []), assigned=frozenset({"main"}))
    assert plan.status is not None
    assert plan.status.reason is Reason.CANCELLED
    assert of_type(plan, DeletePod) == ([DeletePod(box.key)] if there else [])
    assert not of_type(plan, CreatePod)
