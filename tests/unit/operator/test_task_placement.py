"""Where an execution runs, branch by branch."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from corral.api import (
    AgentTaskStatus,
    ObjectMeta,
    Phase,
    Reason,
    SandboxStatus,
    Tool,
    WhenEmpty,
    WhenLarger,
    time_text,
)
from corral.catalogue import Catalogue
from corral.sandbox.port import Owner
from corral_operator.decisions.actions import CreatePod, DeletePod, Program, Resize, Start, Waiting
from corral_operator.decisions.observed import Observed, Refusal, UnheardOfError
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.decisions.task import decide
from corral_operator.names import cold_pod_name
from unit.operator.factories import MIB, NOW, POOL, RUNNING, SIZE, pod, terminated, waiting
from unit.operator.task_factories import RULES, TASK, again, observed, of_type, pool, rules, task, tool, warm

COLD = cold_pod_name("job", "task-uid", "main", 1)
OWNER = Owner("task-uid/main", 1)
STARTS = {"state": RUNNING, "podIP": "10.0.0.8", "owner_uid": TASK.uid}


def _main(status: AgentTaskStatus | None) -> Any:
    assert status is not None
    return status.executions[0]


def test_M4_a_waiting_sandbox_is_written_into_the_status_claimed_and_started_in_this_order() -> None:
    box = warm()
    plan = decide(task(), observed(pools=(pool(box),)), NOW, RULES)
    assert plan.status is not None
    assert _main(plan.status).sandbox == SandboxStatus(
        backend="kubernetes", pod_name="warm", pod_uid="uid-warm", node="node-1", warm=True
    )
    assert _main(plan.status).phase is Phase.RUNNING
    assert _main(plan.status).timings.queued == time_text(NOW - timedelta(seconds=2))
    assert _main(plan.status).timings.claimed == time_text(NOW)
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert (start.execution, start.pod, start.owner) == ("main", box.key, OWNER)
    assert start.request is not None
    assert start.request.owner == OWNER
    assert (plan.claims, plan.waiting) == ((("main", box.key),), ())


def test_B7_a_larger_task_has_its_sandbox_resized_before_it_starts() -> None:
    box = warm()
    spec = {"tool": "once", "limits": {"memory": "1Gi"}}
    plan = decide(task(spec), observed(pools=(pool(box, when_larger=WhenLarger.RESIZE),)), NOW, RULES)
    resize, start = plan.actions
    assert resize == Resize("main", box.key, SandboxSize(1.0, 1024 * MIB, 128 * MIB))
    assert isinstance(start, Start)
    assert _main(plan.status).sandbox.resized is True


def test_M1_without_a_pool_a_pod_is_made_whose_name_follows_from_the_attempt_and_nothing_is_written_yet() -> (
    None
):
    plan = decide(task(), observed(), NOW, RULES)
    assert plan.status is None
    assert plan.actions == (CreatePod("main", 1, COLD, SIZE, deadline_seconds=300 + 60 + 900),)
    assert plan.wake_at == NOW - timedelta(seconds=2) + timedelta(seconds=3)


def test_M4_a_pod_of_its_own_says_which_pool_had_none() -> None:
    plan = decide(task(), observed(pools=(pool(),)), NOW, RULES)
    (create,) = plan.actions
    assert isinstance(create, CreatePod)
    assert create.missed_pool == POOL.name


def test_M4_where_the_pool_queues_the_task_waits_and_after_three_seconds_says_so() -> None:
    supply = (pool(empty=WhenEmpty.QUEUE),)
    plan = decide(task(), observed(pools=supply), NOW, RULES)
    assert (plan.status, plan.actions, plan.waiting) == (None, (), (Waiting("main", "small"),))
    later = NOW + timedelta(seconds=2)
    plan = decide(task(), observed(pools=supply, positions={"main": 4}), later, RULES)
    assert plan.status is not None
    assert plan.status.queue_position == 4
    assert plan.status.phase is Phase.PENDING
    assert [(c.type, c.status, c.reason) for c in plan.status.conditions] == [
        ("Accepted", "True", "Accepted"),
        ("Started", "False", "WaitingForSandbox"),
    ]
    assert "waits for a sandbox of pool small" in (plan.status.message or "")


def test_B3_where_the_pool_refuses_the_task_ends_at_once_and_is_told_when_to_come_back() -> None:
    plan = decide(task(), observed(pools=(pool(empty=WhenEmpty.REFUSE),)), NOW, RULES)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.retry_after_seconds) == (Reason.QUOTA_EXCEEDED, 5)
    assert not of_type(plan, CreatePod, Start)


def test_B13_a_pod_that_runs_is_adopted_written_down_and_only_then_started() -> None:
    box = pod(COLD, **STARTS)
    plan = decide(task(), observed(box, made=frozenset({"main"})), NOW, RULES)
    assert _main(plan.status).sandbox.pod_uid == box.key.uid
    assert _main(plan.status).sandbox.warm is False
    assert [type(action) for action in plan.actions] == [Start]
    assert plan.claims == ()


def test_M1_a_pod_that_is_still_starting_is_waited_for_and_people_are_told_why() -> None:
    box = pod(COLD, age=10, phase="Pending", state=waiting("ContainerCreating"), owner_uid=TASK.uid)
    seen = observed(box, seen=NOW - timedelta(seconds=10))
    plan = decide(task(), seen, NOW, RULES)
    assert plan.actions == ()
    assert plan.status is not None
    assert plan.status.message == f"its pod {COLD} is starting: ContainerCreating"
    assert [c.reason for c in plan.status.conditions] == ["Accepted", "StartingSandbox"]
    assert plan.wake_at == NOW + timedelta(seconds=290)


def test_M1_a_pod_that_does_not_start_in_time_ends_the_task_and_goes() -> None:
    box = pod(COLD, age=301, phase="Pending", state=waiting("ContainerCreating"), owner_uid=TASK.uid)
    plan = decide(task(), observed(box), NOW, RULES)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    assert of_type(plan, DeletePod) == [DeletePod(box.key)]


def test_M1_a_pod_of_that_name_that_belongs_to_somebody_else_is_left_alone() -> None:
    box = pod(COLD, **{**STARTS, "owner_uid": "stranger"})
    plan = decide(task(), observed(box), NOW, RULES)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    assert "belongs to somebody else" in (plan.status.message or "")
    assert not of_type(plan, DeletePod, Start, CreatePod)


def test_B13_a_pod_that_was_made_and_is_gone_is_not_made_again_under_the_same_attempt() -> None:
    plan = decide(task(), observed(made=frozenset({"main"})), NOW, RULES)
    assert plan.status is not None
    assert plan.status.reason is Reason.SANDBOX_FAILED
    assert not of_type(plan, CreatePod)


def test_M2_what_the_api_server_refuses_ends_the_task_with_its_reason() -> None:
    refusal = Refusal(Reason.ADMISSION_REFUSED, "policy x says no", "spec.runtimeClassName", 7)
    plan = decide(task(), observed(refusals={"main": refusal}), NOW, RULES)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.message) == (Reason.ADMISSION_REFUSED, "policy x says no")
    assert plan.status.retry_after_seconds == 7
    assert _main(plan.status).error.field == "spec.runtimeClassName"


REFUSED: list[tuple[dict[str, Any], Reason, str | None, str | None]] = [
    ({"tool": "unknown"}, Reason.TOOL_NOT_FOUND, "tool", None),
    ({"tool": "counts", "arguments": {"n": "x"}}, Reason.INVALID_ARGUMENTS, "arguments.n", None),
    ({"tool": "counts"}, Reason.INVALID_ARGUMENTS, "arguments.n", None),
    ({"tool": "forbidden"}, Reason.PERMISSION_DENIED, None, "permissions"),
    ({"tool": "once", "runtimeClassName": "kata"}, Reason.PERMISSION_DENIED, "spec.runtimeClassName",
     "allowedRuntimeClasses"),
    ({"tool": "once", "network": {"mode": "allowlist", "allowedDomains": ["a.example"]}},
     Reason.UNSUPPORTED, "spec.network.mode", None),
    ({"tool": "once", "workspace": {"hostPath": "/"}}, Reason.UNSUPPORTED, "spec.workspace.hostPath", None),
    ({"tool": "program", "files": [{"path": "a", "content": "b"}]}, Reason.UNSUPPORTED, "spec.files", None),
    ({"tool": "program", "outputs": ["*.txt"]}, Reason.UNSUPPORTED, "spec.outputs", None),
    ({"tool": "program", "allowedPaths": ["sub"]}, Reason.UNSUPPORTED, "spec.allowedPaths", None),
    ({"tool": "program", "limits": {"idleTimeout": "5s"}}, Reason.UNSUPPORTED, "spec.limits.idleTimeout", None),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "reason", "field", "rule"), REFUSED)
def test_M2_what_must_not_run_ends_at_once_and_never_gets_a_pod(
    spec: dict[str, Any], reason: Reason, field: str | None, rule: str | None
) -> None:
    seen = observed(pools=(pool(warm()),))
    plan = decide(task(spec), seen, NOW, RULES)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.phase) == (reason, Phase.FAILED)
    assert plan.status.completion_time == time_text(NOW)
    error = _main(plan.status).error
    assert error.rule == rule
    assert error.field == field or (error.field or "").endswith(f".{field}") or field is None
    assert plan.claims == ()
    assert not of_type(plan, CreatePod, Start, Resize)
    accepted = plan.status.conditions[0]
    assert (accepted.type, accepted.status, accepted.reason) == ("Accepted", "False", reason)


def versioned(version: str) -> Tool:
    """A tool in some version; empty: a built-in one."""
    metadata = ObjectMeta(name="once", resource_version=version or None)
    return tool("once").model_copy(update={"metadata": metadata})


@pytest.mark.parametrize(
    ("known", "let_in"),
    [(None, 0), ("", 7), ("6", 7), ("not a number", 7)],
    ids=["none", "built in", "old", "odd"],
)
def test_S6_before_a_tool_is_refused_or_run_it_is_asked_for_if_there_may_be_a_newer_one(
    known: str | None, let_in: int
) -> None:
    tools = [] if known is None else [versioned(known)]
    lagging = replace(RULES, catalogue=Catalogue(tools))
    asked = replace(task({"tool": "once"}), tool_versions={"once": let_in})
    with pytest.raises(UnheardOfError) as unheard:
        decide(asked, observed(), NOW, lagging)
    assert unheard.value.tools == {"once"}
    plan = decide(asked, observed(looked_up=frozenset({"once"})), NOW, lagging)
    assert (plan.status is not None and plan.status.reason is Reason.TOOL_NOT_FOUND) is (known is None)
    for newer in ("7", "8"):
        decide(asked, observed(), NOW, replace(RULES, catalogue=Catalogue([versioned(newer)])))


def test_S6_all_the_tools_that_steps_wait_for_are_asked_for_together() -> None:
    steps = [{"name": f"s{number}", "tool": f"new-{number}", "onFailure": "Continue"} for number in range(64)]
    view = task({"steps": [*steps[:63], {"name": "known", "tool": "once"}], "strategy": "Parallel"})
    with pytest.raises(UnheardOfError) as unheard:
        decide(view, observed(), NOW, RULES)
    assert unheard.value.tools == {f"new-{number}" for number in range(63)}
    plan = decide(view, observed(looked_up=unheard.value.tools), NOW, RULES)
    assert plan.status is not None
    assert [one.reason for one in plan.status.executions].count(Reason.TOOL_NOT_FOUND) == 63


@pytest.mark.parametrize("enforced", [None, False])
def test_M3_nothing_starts_before_the_proof_that_policies_hold_where_it_is_asked_for(
    *, enforced: bool | None
) -> None:
    strict = rules(enforced=enforced, require_network_policy=True)
    seen = observed(pools=(pool(warm()),), seen=NOW - timedelta(seconds=9))
    plan = decide(task(), seen, NOW, strict)
    assert (plan.actions, plan.claims) == ((), ())
    assert plan.status is not None
    assert "waits for the proof" in (plan.status.message or "")
    assert of_type(decide(task(), seen, NOW, replace(strict, policies_enforced=True)), Start)


def test_M3_a_program_does_not_run_where_nobody_keeps_it_from_the_network() -> None:
    plan = decide(task({"tool": "program"}), observed(), NOW, rules(enforced=False))
    assert plan.status is not None
    assert plan.status.reason is Reason.UNSUPPORTED
    assert not of_type(plan, CreatePod)


def test_B13_a_program_stands_in_the_status_before_its_pod_is_made() -> None:
    plan = decide(task({"tool": "program", "env": [{"name": "A", "value": "b"}]}), observed(), NOW, RULES)
    sandbox = _main(plan.status).sandbox
    assert (sandbox.pod_name, sandbox.pod_uid, sandbox.warm) == (COLD, None, False)
    assert sandbox.weakened == ("runner",)
    assert plan.actions == (
        CreatePod(
            "main",
            1,
            COLD,
            SIZE,
            image="theirs:1",
            program=Program(("/bin/prog",), (("A", "b"),)),
            deadline_seconds=360,
        ),
    )


def test_M4_two_steps_that_begin_together_get_two_sandboxes() -> None:
    spec = {"strategy": "Parallel", "steps": [{"name": n, "tool": "once"} for n in ("a", "b", "c")]}
    boxes = warm("w1", age=90), warm("w2", age=80)
    plan = decide(task(spec), observed(pools=(pool(*boxes),)), NOW, RULES)
    assert plan.claims == (("a", boxes[0].key), ("b", boxes[1].key))
    assert [a.execution for a in plan.actions if isinstance(a, Start)] == ["a", "b"]
    assert [a.execution for a in plan.actions if isinstance(a, CreatePod)] == ["c"]


def test_M2_a_retry_is_waited_for_and_not_begun_early() -> None:
    spec = {"tool": "once", "retry": {"maxAttempts": 2, "backoff": "10s"}}
    refusal = Refusal(Reason.SANDBOX_FAILED, "no")
    first = decide(task(spec), observed(refusals={"main": refusal}), NOW, RULES)
    assert _main(first.status).attempt == 2
    assert first.wake_at == NOW + timedelta(seconds=10)
    waits = again(task(spec), first)
    early = decide(waits, observed(), NOW + timedelta(seconds=9), RULES)
    assert early.actions == ()
    assert early.wake_at == NOW + timedelta(seconds=10)
    due = decide(waits, observed(), NOW + timedelta(seconds=10), RULES)
    assert of_type(due, CreatePod)


def test_M2_the_kubelets_word_on_a_pod_of_its_own_is_the_reason() -> None:
    box = pod(COLD, phase="Failed", state=terminated("OOMKilled", 137), owner_uid=TASK.uid)
    plan = decide(task(), Observed(NOW, {box.key.name: box}), NOW, RULES)
    assert plan.status is not None
    assert plan.status.reason is Reason.OUT_OF_MEMORY
    assert of_type(plan, DeletePod) == [DeletePod(box.key)]


FROZEN = terminated("StartError", 128, message="error during container init: unable to freeze")


def test_M2_a_pod_that_its_node_could_not_start_is_replaced_three_are_made_at_most_and_nobody_has_to_ask() -> (
    None
):
    view, moment = task(), NOW
    names = [cold_pod_name("job", "task-uid", "main", attempt) for attempt in (1, 2, 3)]
    for attempt, pause in ((1, 1), (2, 2)):
        box = pod(names[attempt - 1], phase="Failed", state=FROZEN, owner_uid=TASK.uid)
        plan = decide(view, observed(box), moment, RULES)
        main = _main(plan.status)
        assert (main.reason, main.attempt, main.phase) == (None, attempt + 1, Phase.PENDING)
        assert main.message.startswith(
            f"attempt {attempt} ended with SandboxFailed: pod {box.key.name} on node"
        )
        assert of_type(plan, DeletePod) == [DeletePod(box.key)]
        moment += timedelta(seconds=pause)
        assert plan.wake_at == moment
        view = again(view, plan)
        made = [one for one in decide(view, observed(), moment, RULES).actions if isinstance(one, CreatePod)]
        assert [one.name for one in made] == [names[attempt]]
    box = pod(names[2], phase="Failed", state=FROZEN, owner_uid=TASK.uid)
    ended = decide(view, observed(box), moment, RULES)
    assert _main(ended.status).reason is Reason.SANDBOX_FAILED
    assert not of_type(ended, CreatePod)


def test_M2_a_pod_that_its_node_could_not_start_is_not_replaced_once_the_task_is_cancelled() -> None:
    box = pod(COLD, phase="Failed", state=FROZEN, owner_uid=TASK.uid)
    plan = decide(task({"tool": "once", "cancel": True}), observed(box), NOW, RULES)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.attempt) == (Reason.CANCELLED, 1)


def test_M2_an_image_without_the_program_is_not_tried_again() -> None:
    state = terminated("StartError", 128, message='exec: "nope": executable file not found in $PATH')
    plan = decide(task(), observed(pod(COLD, phase="Failed", state=state, owner_uid=TASK.uid)), NOW, RULES)
    assert _main(plan.status).reason is Reason.SANDBOX_FAILED
