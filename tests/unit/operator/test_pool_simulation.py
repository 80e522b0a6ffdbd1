"""A pool in a cluster that does what it likes: whatever happens, the pool's promises hold."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from corral.api import Refill, SandboxPoolSpec
from corral_operator.decisions.pool import PoolPlan, PoolState, decide_pool, is_usable
from corral_operator.decisions.refill import PoolMemory
from corral_operator.views import PodView
from unit.operator.factories import NOW, POOL, RUNNING, pod, terminated, waiting

PATIENCE = timedelta(seconds=300)
REFILL = Refill(per_second=2, burst=2)


@dataclass
class _Cluster:
    """Pods, and the requests to make some that are on their way."""

    now: datetime = NOW
    pods: dict[str, PodView] = field(default_factory=dict)
    creating: list[str] = field(default_factory=list)
    made: list[tuple[datetime, int]] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    #: Everything that was ever claimed.
    served: set[str] = field(default_factory=set)
    numbers: int = 0


class PoolMachine(RuleBasedStateMachine):
    memory: PoolMemory | None
    plan: PoolPlan | None

    def __init__(self) -> None:
        super().__init__()
        self.cluster = _Cluster()
        self.replicas = 3
        self.template = "k0-r0"
        self.memory = None
        self.plan = None

    # --- the operator ---

    def _state(self) -> PoolState:
        spec = SandboxPoolSpec(replicas=self.replicas, refill=REFILL)
        return PoolState(POOL, 1, spec, deleting=False, status=None, template=self.template)

    @rule()
    def decide(self) -> None:
        cluster = self.cluster
        before = list(cluster.pods.values())
        plan = decide_pool(
            self._state(),
            before,
            cluster.now,
            claimed=cluster.claimed,
            spent=cluster.served - cluster.claimed,
            silent={},
            creating=len(cluster.creating),
            awaited=False,
            memory=self.memory,
            patience=PATIENCE,
        )
        self.memory, self.plan = plan.memory, plan
        deleted = {key.uid for key in plan.delete}
        assert not deleted & cluster.claimed, "a claimed sandbox was deleted"
        spent = {
            one.key.uid
            for one in before
            if one.key.uid in cluster.served - cluster.claimed and not one.deleting
        }
        assert spent <= deleted, "a used sandbox was kept"
        waiting_now = [
            one
            for one in before
            if one.key.uid not in deleted | cluster.claimed
            and not one.ended
            and one.labels["corral.dev/template"] == self.template
        ]
        if plan.create:
            total = len(waiting_now) + len(cluster.creating) + plan.create
            assert total <= self.replicas, f"{total} wait where {self.replicas} were asked for"
        assert len(waiting_now) <= self.replicas
        usable = [
            one for one in before if is_usable(one, self.template) and one.key.uid not in cluster.served
        ]
        kept = [one for one in usable if one.key.uid not in deleted]
        assert len(kept) >= min(len(usable), self.replicas), "a sandbox that could serve was taken away"
        for uid in deleted:
            name = next(one.key.name for one in before if one.key.uid == uid)
            cluster.pods[name] = replace(cluster.pods[name], deleting=True)
        cluster.made.append((cluster.now, plan.create))
        for _ in range(plan.create):
            cluster.numbers += 1
            cluster.creating.append(f"pod-{cluster.numbers}")

    # --- the cluster ---

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 10.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.now += timedelta(seconds=seconds)

    @rule()
    def all_goes_well(self) -> None:
        """What makes every other step likely to find something to act on."""
        self.decide()
        while self.cluster.creating:
            self.a_pod_is_made()
        for one in self._starting():
            self._become(one, state=RUNNING, ready=True)
        for one in self._usable()[:1]:
            self.cluster.claimed.add(one.key.uid)
            self.cluster.served.add(one.key.uid)

    @precondition(lambda self: self.cluster.creating)
    @rule()
    def a_pod_is_made(self) -> None:
        cluster = self.cluster
        name = cluster.creating.pop(0)
        cluster.pods[name] = pod(
            name,
            age=0,
            now=cluster.now,
            phase="Pending",
            state=waiting("ContainerCreating"),
            labels={"corral.dev/template": self.template},
            owner_uid=POOL.uid,
        )

    @precondition(lambda self: self._starting())
    @rule(data=st.data())
    def a_pod_gets_ready(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._starting()))
        self._become(one, state=RUNNING, ready=True)

    @precondition(lambda self: self._starting())
    @rule(data=st.data())
    def a_pod_cannot_get_its_image(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._starting()))
        self._become(one, phase="Pending", state=waiting("ErrImagePull"))

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def a_pod_ends(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._alive()))
        self._become(one, phase="Failed", state=terminated("Error", 1))

    @precondition(lambda self: self._usable())
    @rule(data=st.data())
    def a_task_claims_a_sandbox(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._usable()))
        assert one.key.uid not in self.cluster.served, "a used sandbox was given again"
        self.cluster.claimed.add(one.key.uid)
        self.cluster.served.add(one.key.uid)

    @precondition(lambda self: self.cluster.claimed)
    @rule(data=st.data())
    def a_task_ends(self, data: st.DataObject) -> None:
        self.cluster.claimed.discard(data.draw(st.sampled_from(sorted(self.cluster.claimed))))

    @rule()
    def deleted_pods_go(self) -> None:
        pods = self.cluster.pods
        self.cluster.pods = {name: one for name, one in pods.items() if not one.deleting}

    # --- people ---

    @rule(replicas=st.sampled_from([0, 1, 3, 12]))
    def the_pool_is_scaled(self, replicas: int) -> None:
        self.replicas = replicas

    @rule(template=st.sampled_from(["k0-r0", "k0-r1", "k1-r1"]))
    def the_template_changes(self, template: str) -> None:
        self.template = template

    @rule()
    def the_operator_restarts(self) -> None:
        self.memory = None
        self.cluster.made.clear()

    # --- promises ---

    @invariant()
    def the_refill_is_paced(self) -> None:
        made = self.cluster.made
        for start, (begin, _) in enumerate(made):
            total = 0
            for moment, count in made[start:]:
                total += count
                most = REFILL.burst + REFILL.per_second * (moment - begin).total_seconds()
                assert total <= most + 1e-3, f"{total} sandboxes in {moment - begin}"

    def teardown(self) -> None:
        """Left alone, with sandboxes that come up, the pool gets what was asked for and then rests."""
        self.cluster.claimed.clear()
        for _ in range(60):
            self.decide()
            while self.cluster.creating:
                self.a_pod_is_made()
            for one in self._starting():
                self._become(one, state=RUNNING, ready=True)
            self.deleted_pods_go()
            self.cluster.now += timedelta(seconds=20)
        self.cluster.made.clear()
        self.decide()
        ready = [one for one in self._usable() if one.labels["corral.dev/template"] == self.template]
        assert len(ready) == len(self._usable()) == self.replicas
        assert self.plan is not None
        assert (self.plan.create, self.plan.delete) == (0, ())
        assert self.plan.memory.trouble is None or self.replicas == len(ready)

    # --- looking ---

    def _alive(self) -> list[PodView]:
        return [one for one in self.cluster.pods.values() if not one.ended]

    def _starting(self) -> list[PodView]:
        return [one for one in self._alive() if not one.ready]

    def _usable(self) -> list[PodView]:
        served = self.cluster.served
        return [one for one in self._alive() if is_usable(one, self.template) and one.key.uid not in served]

    def _become(self, one: PodView, **fields: object) -> None:
        fresh = pod(
            one.key.name,
            labels=dict(one.labels),
            owner_uid=POOL.uid,
            **fields,
        )
        self.cluster.pods[one.key.name] = replace(fresh, created=one.created, scheduled_at=one.created)


TestM4PoolSimulation = PoolMachine.TestCase
TestM4PoolSimulation.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
