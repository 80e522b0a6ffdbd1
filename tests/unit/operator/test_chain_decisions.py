"""Chains: which step begins when, with what, and how the whole ends."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from corral.api import Reason, WhenEmpty
from corral_operator.decisions.actions import Cancel, CreatePod, DeletePod, Plan, Start
from corral_operator.decisions.observed import RunView
from corral_operator.decisions.task import decide
from unit.operator.factories import NOW
from unit.operator.task_factories import RULES, again, observed, of_type, pool, result, task, warm

BOXES = tuple(warm(f"w{number}", age=90 - number) for number in range(6))


class _Chain:
    """A chain that is driven by hand: as many sandboxes as it wants, and runners that say what a test tells."""

    def __init__(self, *steps: Mapping[str, Any], strategy: str = "Parallel", **spec: Any) -> None:
        self.view = task({"steps": list(steps), "strategy": strategy, **spec})
        self.runs: dict[str, RunView] = {}
        self.seconds = 0.0

    def look(self, *, ready: int = 6, **ends: RunView) -> Plan:
        self.runs |= ends
        used = {e.sandbox.pod_uid for e in self.view.status.executions if e.sandbox is not None}
        free = [box for box in BOXES if box.key.uid not in used][:ready]
        seen = observed(*BOXES, pools=(pool(*free),), runs=self.runs)
        self.seconds += 1
        plan = decide(self.view, seen, NOW + timedelta(seconds=self.seconds), RULES)
        self.view = again(self.view, plan)
        for action in plan.actions:
            if isinstance(action, Start):
                self.runs[action.execution] = RunView(began=True)
        return plan

    @property
    def reasons(self) -> dict[str, Reason | None]:
        return {execution.name: execution.reason for execution in self.view.status.executions}


def _step(name: str, tool: str = "once", **fields: Any) -> dict[str, Any]:
    return {"name": name, "tool": tool, **fields}


def _ended(name: str, reason: Reason = Reason.COMPLETED, **fields: Any) -> RunView:
    return RunView(ended=result(reason, name=name, **fields), began=True, told=True)


def _started(plan: Plan) -> list[str]:
    return [action.execution for action in plan.actions if isinstance(action, Start)]


def test_D3_a_sequence_begins_each_step_in_the_look_that_sees_the_one_before_end() -> None:
    chain = _Chain(_step("a"), _step("b"), strategy="Sequential")
    assert _started(chain.look()) == ["a"]
    assert _started(chain.look()) == []
    plan = chain.look(a=_ended("a"))
    assert _started(plan) == ["b"]
    assert of_type(plan, DeletePod) == [DeletePod(BOXES[0].key, idle=True)]
    chain.look(b=_ended("b"))
    assert (chain.view.status.reason, chain.view.status.message) == (Reason.COMPLETED, "2 steps ended")
    assert chain.reasons == {"a": Reason.COMPLETED, "b": Reason.COMPLETED}


def test_D3_a_steps_arguments_are_the_results_of_earlier_ones() -> None:
    chain = _Chain(
        _step("a"), _step("b", "counts", arguments={"n": "$(steps.a.result.n)", "s": "$(steps.a.stdout)"})
    )
    chain.look()
    plan = chain.look(a=_ended("a", value={"n": 7}, stdout="out"))
    (start,) = of_type(plan, Start)
    assert isinstance(start, Start)
    assert start.request is not None
    assert start.request.arguments == {"n": 7, "s": "out"}


def test_D3_a_reference_to_what_is_not_there_ends_the_step_and_nothing_of_it_runs() -> None:
    chain = _Chain(_step("a"), _step("b", arguments={"x": "$(steps.a.result.nothing)"}))
    chain.look()
    plan = chain.look(a=_ended("a", value={"n": 7}))
    assert chain.reasons == {"a": Reason.COMPLETED, "b": Reason.INVALID_ARGUMENTS}
    assert chain.view.status.reason is Reason.STEP_FAILED
    assert not of_type(plan, Start, CreatePod)


def test_D3_steps_stand_in_the_status_in_the_order_of_the_spec_whichever_began_first() -> None:
    chain = _Chain(_step("late", dependsOn=["early"]), _step("early"))
    chain.look()
    chain.look(early=_ended("early"))
    assert list(chain.reasons) == ["late", "early"]


def test_D3_after_a_step_that_stops_the_chain_what_runs_goes_on_and_nothing_else_begins() -> None:
    chain = _Chain(_step("a"), _step("b"), _step("c", dependsOn=["b"]))
    assert _started(chain.look()) == ["a", "b"]
    assert _started(chain.look(a=_ended("a", Reason.TOOL_ERROR))) == []
    assert chain.view.status.reason is None
    assert _started(chain.look(b=_ended("b"))) == []
    assert chain.view.status.message == "step a ended with ToolError"
    assert chain.reasons == {"a": Reason.TOOL_ERROR, "b": Reason.COMPLETED}


def test_D3_a_step_that_waits_for_a_sandbox_does_not_begin_after_one_that_stops_the_chain() -> None:
    chain = _Chain(_step("a"), _step("b"))
    first = chain.look(ready=1)
    assert [type(action) for action in first.actions] == [Start, CreatePod]
    plan = chain.look(a=_ended("a", Reason.TOOL_ERROR))
    assert not of_type(plan, Start, CreatePod)
    assert plan.claims == ()
    assert chain.view.status.reason is Reason.STEP_FAILED


def test_D3_a_step_found_waiting_before_the_fatal_one_in_the_same_look_leaves_nothing_behind() -> None:
    chain = _Chain(_step("waits", limits={"memory": "2Gi"}), _step("fatal"))
    first = chain.look()
    assert [(type(a), a.execution) for a in first.actions if isinstance(a, Start | CreatePod)] == [
        (CreatePod, "waits"),
        (Start, "fatal"),
    ]
    plan = chain.look(fatal=_ended("fatal", Reason.TOOL_ERROR))
    assert not of_type(plan, CreatePod, Start)
    assert chain.reasons == {"waits": Reason.CANCELLED, "fatal": Reason.TOOL_ERROR}
    assert chain.view.status.reason is Reason.STEP_FAILED


def test_D3_with_continue_the_chain_goes_on_and_completes() -> None:
    chain = _Chain(_step("a", onFailure="Continue"), _step("b"), strategy="Sequential")
    chain.look()
    assert _started(chain.look(a=_ended("a", Reason.TOOL_ERROR))) == ["b"]
    chain.look(b=_ended("b"))
    assert (chain.view.status.reason, chain.view.status.message) == (
        Reason.COMPLETED,
        "2 steps ended, a failed with onFailure: Continue",
    )


def test_D3_several_steps_refused_at_once_end_the_chain_in_one_look() -> None:
    chain = _Chain(_step("a", "unknown", onFailure="Continue"), _step("b", "unknown"), strategy="Sequential")
    plan = chain.look()
    assert chain.reasons == {"a": Reason.TOOL_NOT_FOUND, "b": Reason.TOOL_NOT_FOUND}
    assert chain.view.status.reason is Reason.STEP_FAILED
    assert not of_type(plan, Start, CreatePod)


def test_M2_one_step_is_retried_and_the_others_are_not_disturbed() -> None:
    chain = _Chain(_step("a", "again"), _step("b"), retry={"maxAttempts": 2, "backoff": "1s"})
    chain.look()
    chain.look(a=_ended("a", Reason.SANDBOX_FAILED, tool="again"))
    chain.runs.pop("a")
    assert {e.name: e.attempt for e in chain.view.status.executions} == {"a": 2, "b": 1}
    chain.seconds += 1
    plan = chain.look()
    assert [(a.execution, a.owner.attempt) for a in plan.actions if isinstance(a, Start)] == [("a", 2)]
    assert chain.view.status.attempt == 2


def test_M1_cancelling_a_chain_ends_what_runs_and_begins_nothing() -> None:
    chain = _Chain(_step("a"), _step("b"), _step("c", dependsOn=["a"]))
    chain.look(ready=1)
    chain.view = replace(chain.view, cancel=True)
    plan = chain.look()
    assert of_type(plan, Cancel) == [Cancel("a")]
    assert not of_type(plan, Start, CreatePod)
    chain.look(a=_ended("a", Reason.CANCELLED))
    assert chain.view.status.reason is Reason.CANCELLED
    assert chain.reasons == {"a": Reason.CANCELLED, "b": Reason.CANCELLED}


def test_D3_a_step_that_was_cancelled_by_the_deadline_ends_the_chain_with_the_deadline() -> None:
    chain = _Chain(_step("a"), activeDeadlineSeconds=30)
    chain.look()
    chain.seconds += 40
    assert of_type(chain.look(), Cancel)
    chain.look(a=_ended("a", Reason.CANCELLED))
    assert (chain.view.status.reason, chain.reasons["a"]) == (Reason.DEADLINE_EXCEEDED,) * 2


def test_M1_a_new_operator_goes_on_with_a_chain_where_it_stands() -> None:
    chain = _Chain(_step("a"), _step("b"), strategy="Sequential")
    chain.look()
    chain.look(a=_ended("a"))
    chain.runs.clear()
    plan = chain.look()
    assert _started(plan) == ["b"], "it attaches to b and leaves a alone"
    assert of_type(plan, DeletePod) == [DeletePod(BOXES[0].key)], (
        "its predecessor may have died before it did"
    )
    assert chain.reasons == {"a": Reason.COMPLETED, "b": None}


def test_B13_a_pod_that_an_open_step_is_said_to_have_too_is_left_alone() -> None:
    chain = _Chain(_step("a"), _step("b"), strategy="Sequential")
    chain.look()
    chain.look(a=_ended("a"))
    a, b = chain.view.status.executions
    both = (a, b.model_copy(update={"sandbox": a.sandbox}))
    chain.view = replace(chain.view, status=chain.view.status.model_copy(update={"executions": both}))
    assert not of_type(chain.look(), DeletePod)


def test_M1_a_step_that_ended_at_once_is_told_while_the_next_one_waits_in_a_queue() -> None:
    view = task({"steps": [_step("a", "there-is-none", onFailure="Continue"), _step("b")]})
    seen = observed(pools=(pool(empty=WhenEmpty.QUEUE),))
    plan = decide(view, seen, NOW, RULES)
    assert plan.status is not None
    assert plan.status.executions[0].reason is Reason.TOOL_NOT_FOUND
    # What waits does so since then, and after a while people are told.
    later = decide(again(view, plan), seen, NOW + timedelta(seconds=4), RULES)
    assert later.status is not None
    assert "waits for a sandbox of pool" in (later.status.message or "")
