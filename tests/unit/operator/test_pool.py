"""What a pool makes and takes away."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from corral.api import Condition, ConditionStatus, Reason, Refill, SandboxPoolSpec, SandboxPoolStatus
from corral_operator.decisions.pool import LULL, PoolPlan, PoolState, decide_pool, is_usable
from corral_operator.decisions.refill import PoolMemory, RefillBucket
from corral_operator.views import PodView
from unit.operator.factories import NOW, POOL, RUNNING, pod, terminated, waiting

TODAY, UPGRADED, OTHER = "kind-now", "kind-old", "other-now"
PATIENCE = timedelta(seconds=300)


def _state(replicas: int, **changes: Any) -> PoolState:
    refill = changes.pop("refill", Refill(per_second=5, burst=10))
    state = PoolState(
        key=POOL,
        generation=3,
        spec=SandboxPoolSpec(replicas=replicas, refill=refill),
        deleting=False,
        status=None,
        template=TODAY,
    )
    return replace(state, **changes)


def _pod(name: str, *, template: str = TODAY, **fields: Any) -> PodView:
    fields = {"state": RUNNING, "ready": True, "owner_uid": POOL.uid, **fields}
    return pod(name, labels={"corral.dev/template": template}, **fields)


def _starting(name: str, **fields: Any) -> PodView:
    return _pod(name, **{"phase": "Pending", "state": waiting("ContainerCreating"), "ready": False, **fields})


def _decide(state: PoolState, pods: Sequence[PodView], **given: Any) -> PoolPlan:
    arguments: dict[str, Any] = {
        "claimed": frozenset(),
        "spent": frozenset(),
        "silent": {},
        "creating": 0,
        "awaited": False,
        "memory": None,
        "patience": PATIENCE,
        **given,
    }
    now = arguments.pop("now", NOW)
    return decide_pool(state, pods, now, **arguments)


def _deleted(plan: PoolPlan) -> list[str]:
    return [key.name for key in plan.delete]


def _ready(plan: PoolPlan) -> tuple[str, str, str]:
    assert plan.status is not None
    (condition,) = plan.status.conditions
    return condition.status, condition.reason, condition.message


def _refused(reason: str = "QuotaExceeded") -> PoolMemory:
    memory = PoolMemory(RefillBucket(10.0, NOW), newest=NOW - timedelta(seconds=60))
    return memory.failed(reason, "the quota has no room", NOW)


# --- how many ---


def test_M4_a_new_pool_is_filled_as_its_bucket_allows() -> None:
    plan = _decide(_state(12), [])
    assert plan.create == 10
    assert plan.memory.bucket == RefillBucket(0.0, NOW)
    assert plan.wake_at == NOW + timedelta(seconds=0.2)


def test_M4_what_waits_starts_or_is_being_made_counts_and_what_is_claimed_does_not() -> None:
    pods = [_pod("ready"), _starting("starting"), _pod("claimed"), _pod("strangers", owner_uid="else")]
    plan = _decide(_state(5), pods, claimed={"uid-claimed"}, creating=1, awaited=True)
    assert (plan.create, _deleted(plan)) == (2, [])


@pytest.mark.parametrize("how", ["claimed", "spent", "deleting"])
def test_M4_what_a_task_took_is_replaced_after_a_lull_or_when_somebody_waits(how: str) -> None:
    pods = [_pod("ready"), _pod("taken", deleting=how == "deleting")]
    given: dict[str, Any] = {how: {"uid-taken"}} if how != "deleting" else {}
    first = _decide(_state(2), pods, **given)
    assert (first.create, first.wake_at) == (0, NOW + LULL)
    assert _decide(_state(2), pods, **given, memory=first.memory, awaited=True).create == 1
    # A second one that is taken meanwhile does not put it off.
    later = NOW + LULL / 2
    second = _decide(_state(3), pods, **given, memory=first.memory, now=later)
    assert (second.create, second.wake_at) == (0, NOW + LULL)
    assert _decide(_state(3), pods, **given, memory=second.memory, now=NOW + LULL).create == 2
    assert _decide(_state(3), [_pod("ready")]).create == 2, "nobody took what was never there"


def test_M4_used_and_ended_sandboxes_go_and_are_replaced() -> None:
    pods = [
        _pod("spent"),
        _pod("crashed", phase="Failed", state=terminated("Error", 1)),
        _pod("evicted", phase="Failed", reason="Evicted"),
        _pod("going", deleting=True),
        _pod("claimed", phase="Failed", state=terminated("Error", 1)),
    ]
    plan = _decide(_state(1), pods, spent={"uid-spent"}, claimed={"uid-claimed"})
    assert _deleted(plan) == ["crashed", "evicted", "spent"]


def test_M4_scaling_down_takes_starting_ones_first_then_the_youngest_and_no_claimed_one() -> None:
    pods = [
        _pod("old", age=90),
        _pod("middle", age=60),
        _pod("young", age=30),
        _starting("starting", age=100),
        _pod("claimed"),
    ]
    assert _deleted(_decide(_state(1), pods, claimed={"uid-claimed"})) == ["middle", "starting", "young"]
    assert _deleted(_decide(_state(0), pods, claimed={"uid-claimed"})) == [
        "middle",
        "old",
        "starting",
        "young",
    ]


def test_M4_creations_on_their_way_cost_no_ready_sandbox_its_place() -> None:
    plan = _decide(_state(2), [_pod("a"), _pod("b")], creating=5)
    assert (plan.create, _deleted(plan)) == (0, [])


def test_M4_a_pool_that_is_being_deleted_makes_nothing_and_leaves_its_pods_to_their_owner() -> None:
    plan = _decide(_state(5, deleting=True), [_pod("ready")])
    assert (plan.create, plan.delete, plan.status) == (0, (), None)


# --- another template ---


def test_M4_outdated_sandboxes_stay_until_new_ones_are_ready_and_few_start_at_once() -> None:
    outdated = [_pod(f"old-{number}", template=UPGRADED, age=90 - number) for number in range(8)]
    plan = _decide(_state(8), outdated)
    assert (plan.create, _deleted(plan)) == (2, [])
    assert is_usable(outdated[0], TODAY)
    new = [_pod("new-0", age=5), _starting("new-1", age=5)]
    plan = _decide(_state(8), [*outdated, *new])
    assert (plan.create, _deleted(plan)) == (1, ["old-0"])


def test_M4_outdated_sandboxes_that_serve_nobody_go_at_once() -> None:
    pods = [_pod("other", template=OTHER), _starting("starting", template=UPGRADED)]
    assert not is_usable(pods[0], TODAY)
    plan = _decide(_state(2), pods)
    assert (plan.create, _deleted(plan)) == (2, ["other", "starting"])


# --- trouble ---


def test_M4_a_wrong_image_stops_the_refill_and_is_told() -> None:
    stuck = _starting("stuck", state=waiting("ImagePullBackOff", "not found"), age=40)
    plan = _decide(_state(5), [stuck])
    assert (plan.create, _deleted(plan)) == (0, [])
    status, reason, message = _ready(plan)
    assert (status, reason) == (ConditionStatus.FALSE, Reason.IMAGE_PULL_FAILED)
    assert message.startswith(
        "0 of 5 sandboxes are ready; pod stuck on node node-1: its image cannot be fetched"
    )
    again = _decide(_state(5), [stuck], memory=plan.memory, now=NOW + timedelta(seconds=200))
    assert again.create == 0
    assert again.memory.trouble == plan.memory.trouble  # the same failure, counted once
    # After the whole patience another node gets a try.
    last = _decide(_state(5), [stuck], memory=again.memory, now=NOW + timedelta(seconds=261))
    assert (last.create, _deleted(last)) == (1, ["stuck"])


def test_M4_sandboxes_that_crash_again_and_again_are_made_ever_more_slowly() -> None:
    memory, now, pauses = None, NOW, []
    for number in range(12):
        crashed = _starting(f"c{number}", phase="Failed", state=terminated("Error", 1), age=1, now=now)
        plan = _decide(_state(5), [crashed], memory=memory, now=now)
        assert (plan.create, _deleted(plan)) == (0, [crashed.key.name])
        assert plan.wake_at is not None
        pauses.append((plan.wake_at - now).total_seconds())
        now = plan.wake_at
        retry = _decide(_state(5), [], memory=plan.memory, now=now)
        assert retry.create == 1  # one, to see whether it comes up
        memory, now = retry.memory, now + timedelta(seconds=5)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_B13_a_runner_that_does_not_answer_for_as_long_as_a_start_may_take_is_replaced() -> None:
    silent = {"uid-mute": NOW - timedelta(seconds=200), "uid-hers": NOW - timedelta(seconds=900)}
    pods = [_pod("mute", ready=False, age=4000), _pod("hers", ready=False), _pod("fine")]
    plan = _decide(_state(2), pods, silent=silent, claimed={"uid-hers"})
    assert (plan.create, _deleted(plan), plan.wake_at) == (0, [], NOW + timedelta(seconds=100))
    late = _decide(_state(2), pods, silent=silent, claimed={"uid-hers"}, now=NOW + timedelta(seconds=100))
    assert _deleted(late) == ["mute"]
    assert _ready(late)[1:] == (
        Reason.SANDBOX_FAILED,
        (
            "1 of 2 sandboxes are ready; pod mute on node node-1: its runner has not answered for 300 seconds. "
            "See its log, and whether the operator's pod can reach it"
        ),
    )


def test_M4_ten_that_fail_together_are_one_failure() -> None:
    crashed = [_starting(f"c{n}", phase="Failed", state=terminated("Error", 1), age=n) for n in range(10)]
    plan = _decide(_state(10), crashed)
    assert plan.memory.trouble is not None
    assert plan.memory.trouble.failures == 1


def test_M4_all_is_well_again_once_a_newer_sandbox_is_ready() -> None:
    memory = _refused()
    old = _pod("old", age=60)
    plan = _decide(_state(5), [old], memory=memory, now=NOW + timedelta(seconds=1))
    assert (plan.create, plan.wake_at) == (0, NOW + timedelta(seconds=2))
    assert _ready(plan)[1] == "QuotaExceeded"
    now = NOW + timedelta(seconds=10)
    plan = _decide(_state(5), [old, _pod("new", age=2, now=now)], memory=memory, now=now)
    assert (plan.create, plan.memory.trouble) == (3, None)


def test_M4_evictions_and_lost_nodes_are_no_fault_of_the_pools() -> None:
    evicted = _pod("evicted", phase="Failed", reason="Evicted")
    plan = _decide(_state(2), [evicted])
    assert (plan.create, plan.memory.trouble) == (2, None)


def test_M4_sandboxes_without_a_node_stay_so_that_the_cluster_sees_what_is_wanted() -> None:
    pending = _starting("pending", node=None, state=None, age=3600, scheduler_says="0/3 nodes are available")
    plan = _decide(_state(1), [pending])
    assert (plan.create, _deleted(plan)) == (0, [])
    assert _ready(plan)[1] == Reason.UNSCHEDULABLE


# --- what it says ---


def _status(ready: int, replicas: int, claimed: int, condition: dict[str, Any]) -> SandboxPoolStatus:
    return SandboxPoolStatus(
        replicas=replicas,
        ready=ready,
        claimed=claimed,
        selector="corral.dev/pool=small",
        observed_generation=3,
        conditions=(
            Condition(
                type="Ready",
                last_transition_time="2026-01-01T12:00:00.000000Z",
                observed_generation=3,
                **condition,
            ),
        ),
    )


def test_M4_the_whole_status() -> None:
    pods = [_pod("a"), _starting("b"), _pod("c")]
    plan = _decide(_state(2), pods, claimed={"uid-c"})
    refilling = {
        "status": "False",
        "reason": "Refilling",
        "message": "1 of 2 sandboxes are ready, 1 are starting",
    }
    assert plan.status == _status(1, 2, 1, refilling)
    again = _decide(_state(2, status=plan.status), pods, claimed={"uid-c"}, now=NOW + timedelta(seconds=9))
    assert again.status is None  # nothing to write


def test_M4_the_reasons_of_the_condition() -> None:
    assert _ready(_decide(_state(0), []))[:2] == (ConditionStatus.TRUE, "ScaledToZero")
    assert _ready(_decide(_state(1), [_pod("a")]))[:2] == (ConditionStatus.TRUE, "AllReady")
    assert _ready(_decide(_state(1), [_starting("a")]))[:2] == (ConditionStatus.FALSE, "Empty")
    assert _ready(_decide(_state(1), [_pod("a")], memory=_refused()))[:2] == (
        ConditionStatus.TRUE,
        "AllReady",
    )


def test_a_clock_that_was_set_back_fills_no_bucket() -> None:
    refill = Refill(per_second=5, burst=10)
    bucket = RefillBucket(1.0, NOW).at_time(refill, NOW - timedelta(hours=1))
    assert bucket.tokens == 1.0
