"""Whatever is observed, a decision is made, and it keeps what every decision must keep."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st

from corral.api import (
    AgentTaskStatus,
    ExecutionStatus,
    Phase,
    Reason,
    SandboxStatus,
    Timings,
    WhenEmpty,
    time_text,
)
from corral.cluster.port import ObjectKey
from corral_operator.decisions.actions import CreatePod, DeletePod, Start
from corral_operator.decisions.observed import Observed, Printed, Refusal, Rules, RunView, UnheardOfError
from corral_operator.decisions.task import decide
from corral_operator.names import cold_pod_name
from corral_operator.views import ContainerView, PodView
from unit.operator.factories import NOW, POOL
from unit.operator.task_factories import RULES, TASK, of_type, pool, result, rules, task

STEPS = ("a", "b")
TOOLS = st.sampled_from(["once", "again", "program", "counts", "forbidden", "unknown"])
MOMENTS = st.integers(-4000, 4000).map(lambda seconds: NOW + timedelta(seconds=seconds))
NAMES = st.sampled_from(
    ["warm", "", *(cold_pod_name("job", "task-uid", name, n) for name in ("main", *STEPS) for n in (1, 2))]
)
WORDS = st.sampled_from(
    ["", "no", "ImagePullBackOff", "OOMKilled", "Completed", "Evicted", "StartError", "é" * 99]
)
UIDS = st.sampled_from(["u1", "u2"])


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


CONTAINERS = st.builds(
    ContainerView,
    waiting=_maybe(WORDS),
    waiting_message=WORDS,
    running=st.booleans(),
    started_at=_maybe(MOMENTS),
    terminated=_maybe(WORDS),
    terminated_message=WORDS,
    exit_code=_maybe(st.integers(-1, 300)),
    signal=_maybe(st.integers(0, 64)),
    finished_at=_maybe(MOMENTS),
)


def _pods(names: st.SearchStrategy[str]) -> st.SearchStrategy[PodView]:
    return st.builds(
        PodView,
        key=st.builds(ObjectKey, st.just("team"), names, UIDS),
        resource_version=st.just("1"),
        labels=st.just({}),
        created=MOMENTS,
        phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        reason=_maybe(WORDS),
        message=WORDS,
        node=_maybe(st.just("node-1")),
        ip=_maybe(st.just("10.0.0.1")),
        ready=st.booleans(),
        scheduled=_maybe(st.booleans()),
        scheduling_reason=_maybe(WORDS),
        scheduling_message=WORDS,
        disruption=_maybe(st.sampled_from(["EvictionByEvictionAPI", "DeletionByTaintManager", "New"])),
        container=CONTAINERS,
        deleting=st.booleans(),
        owner_uid=_maybe(st.sampled_from([TASK.uid, POOL.uid])),
        scheduled_at=_maybe(MOMENTS),
    )


PODS = st.lists(_pods(NAMES), max_size=4).map(lambda pods: {one.key.name: one for one in pods})
RUNS = st.builds(
    RunView,
    ended=_maybe(st.sampled_from(Reason).map(result)),
    lost=_maybe(WORDS),
    never_started=_maybe(WORDS),
    over_at=_maybe(MOMENTS),
    began=st.booleans(),
    cancelled_at=_maybe(MOMENTS),
    isolation=st.just(("seccomp",)),
)
REFUSALS = st.builds(Refusal, st.sampled_from(Reason), WORDS, _maybe(WORDS), _maybe(st.integers(0, 99)))
EXECUTIONS = st.sampled_from(["main", *STEPS, "gone"])
SUPPLIES = st.lists(
    st.builds(
        lambda pods, empty: pool(*pods, empty=empty),
        st.lists(_pods(st.sampled_from(["w1", "w2"])), max_size=2),
        st.sampled_from(WhenEmpty),
    ),
    max_size=2,
).map(tuple)
OBSERVED = st.builds(
    Observed,
    seen=MOMENTS,
    pods=PODS,
    absent=st.frozensets(NAMES, max_size=3),
    last_seen=PODS,
    runs=st.dictionaries(EXECUTIONS, RUNS, max_size=2),
    refusals=st.dictionaries(EXECUTIONS, REFUSALS, max_size=1),
    made=st.frozensets(EXECUTIONS, max_size=2),
    assigned=st.frozensets(EXECUTIONS, max_size=2),
    position_told=_maybe(MOMENTS),
    pools=SUPPLIES,
    positions=st.dictionaries(EXECUTIONS, st.integers(1, 9), max_size=2),
    logs=st.dictionaries(
        EXECUTIONS, st.builds(Printed, WORDS, WORDS, st.booleans(), st.sampled_from(["", "503"])), max_size=2
    ),
)
TIMES = _maybe(MOMENTS.map(time_text))


@st.composite
def _executions(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[ExecutionStatus, ...]:
    found = []
    for name in draw(st.lists(st.sampled_from([*names, "gone"]), unique=True, max_size=3)):
        reason = draw(_maybe(st.sampled_from(Reason)))
        sandbox = SandboxStatus(
            pod_name=draw(_maybe(NAMES)),
            pod_uid=draw(_maybe(UIDS)),
            warm=draw(_maybe(st.booleans())),
            resized=draw(_maybe(st.booleans())),
            weakened=draw(st.sampled_from([(), ("runner",)])),
        )
        execution = ExecutionStatus(
            name=name,
            tool=draw(TOOLS),
            attempt=draw(st.sampled_from([0, 1, 2, 10**9])),
            phase=draw(st.sampled_from(Phase)),
            reason=reason,
            message=draw(_maybe(WORDS)),
            timings=draw(_maybe(st.builds(Timings, queued=TIMES, claimed=TIMES))),
            sandbox=draw(_maybe(st.just(sandbox))),
        )
        found.append(execution)
    return tuple(found)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[dict[str, Any], AgentTaskStatus]:
    chain = draw(st.booleans())
    spec: dict[str, Any] = {}
    if chain:
        spec["steps"] = [
            {"name": name, "tool": draw(TOOLS), "onFailure": draw(st.sampled_from(["Stop", "Continue"]))}
            for name in STEPS
        ]
        if draw(st.booleans()):
            spec["steps"][1]["arguments"] = {"n": "$(steps.a.result.n)"}
        spec["strategy"] = draw(st.sampled_from(["Parallel", "Sequential"]))
    else:
        spec["tool"] = draw(TOOLS)
    if draw(st.booleans()):
        spec["retry"] = {"maxAttempts": 10, "backoff": draw(st.sampled_from(["1ns", "1s", "24h"]))}
    if draw(st.booleans()):
        spec["activeDeadlineSeconds"] = draw(st.sampled_from([1, 604800]))
    spec["cancel"] = draw(st.booleans())
    status = AgentTaskStatus(
        executions=draw(_executions(STEPS if chain else ("main",))),
        queue_position=draw(_maybe(st.integers(0, 9))),
        start_time=draw(TIMES),
    )
    return spec, status


RULESETS = st.sampled_from(
    [
        RULES,
        rules(enforced=False),
        rules(require_network_policy=True),
        rules(tools=()),
        rules(late_secrets=("*",)),
    ]
)


@settings(
    max_examples=100,
    deadline=None,
    phases=(Stage.explicit, Stage.reuse, Stage.generate),  # making a failure smaller takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(world=_worlds(), seen=OBSERVED, ruleset=RULESETS)
def test_B13_a_decision_is_made_whatever_is_observed(
    world: tuple[dict[str, Any], AgentTaskStatus], seen: Observed, ruleset: Rules
) -> None:
    spec, status = world
    view = task(spec, status)
    for _ in () if view.spec is None else view.spec.called_tools:
        try:
            decide(view, seen, NOW, ruleset)
        except UnheardOfError as unheard:
            seen = replace(seen, looked_up=seen.looked_up | unheard.tools)
    plan = decide(view, seen, NOW, ruleset)
    assert plan == decide(view, seen, NOW, ruleset), "it depends on something else"
    after = plan.status or view.status
    executions = {execution.name: execution for execution in after.executions}
    for start in of_type(plan, Start):
        assert isinstance(start, Start)
        sandbox = executions[start.execution].sandbox
        assert sandbox is not None
        assert sandbox.pod_name == start.pod.name
        assert sandbox.pod_uid in {None, start.pod.uid}
    claimed = [key.uid for _, key in plan.claims]
    assert len(claimed) == len(set(claimed)), "two executions in one sandbox"
    assert len(of_type(plan, DeletePod)) == len(set(of_type(plan, DeletePod))), "deleted twice"
    if view.cancel:
        assert not of_type(plan, CreatePod)
        assert not plan.claims
        assert all(isinstance(a, Start) and a.request is None for a in of_type(plan, Start))
    if after.reason is not None:
        assert not of_type(plan, CreatePod, Start)
        assert (plan.claims, plan.waiting) == ((), ())
    wire = after.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert AgentTaskStatus.model_validate(wire) == after
