"""A task in a cluster that does what it likes, under an operator that dies: whatever happens, the promises hold."""

from collections import defaultdict
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corral.api import Reason, WhenEmpty
from corral_operator.decisions.observed import Refusal
from unit.operator.task_factories import TASK
from unit.operator.world import OTHER, Box, World

RETRY = {"maxAttempts": 3, "reasons": ["SandboxFailed", "NodeLost", "Evicted"], "backoff": "1s"}
RUNNABLE = st.sampled_from(["once", "again", "program", "program-again"])


def _step(name: str, tool: str, *, goes_on: bool, **fields: Any) -> dict[str, Any]:
    return {"name": name, "tool": tool, "onFailure": "Continue" if goes_on else "Stop", **fields}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """One tool, or a chain whose steps may need each other."""
    spec: dict[str, Any] = {}
    if draw(st.booleans()):
        spec["tool"] = draw(RUNNABLE)
    else:
        tools = draw(st.lists(RUNNABLE, min_size=2, max_size=4))
        steps = [
            _step(f"s{number}", tool, goes_on=draw(st.booleans())) for number, tool in enumerate(tools)
        ]
        if draw(st.booleans()):
            steps[-1]["arguments"] = {"x": "$(steps.s0.result)"}
        spec |= {"steps": steps, "strategy": draw(st.sampled_from(["Sequential", "Parallel"]))}
    if draw(st.booleans()):
        spec["retry"] = RETRY
    if draw(st.integers(0, 3)) == 0:
        spec["activeDeadlineSeconds"] = draw(st.sampled_from([2, 60]))
    return spec


class TaskMachine(RuleBasedStateMachine):
    world: World

    @initialize(
        spec=specs(), empty=st.sampled_from([None, *WhenEmpty]), ready=st.integers(0, 3)
    )
    def begin(self, spec: dict[str, Any], empty: WhenEmpty | None, ready: int) -> None:
        self.world = World(spec, when_empty=empty)
        for _ in range(ready):
            self.world.add_waiting()
        self.world.catch_up()

    # --- the operator ---

    @rule()
    def looks(self) -> None:
        self.world.look()

    @rule(dies_after=st.integers(0, 3))
    def dies_within_a_look(self, dies_after: int) -> None:
        self.world.look(dies_after=dies_after)

    @rule()
    def the_answer_to_a_write_is_lost(self) -> None:
        self.world.look(answer_lost=True)

    @rule()
    def dies(self) -> None:
        self.world.crash()

    @rule()
    def watches_catch_up(self) -> None:
        self.world.catch_up()

    @precondition(lambda self: self.world.late)
    @rule()
    def an_order_of_a_dead_operator_arrives(self) -> None:
        self.world.deliver(self.world.late.pop(0))

    @rule()
    def orders_arrive_and_are_answered(self) -> None:
        for followed in list(self.world.memory.runs.values()):
            if not followed.arrived:
                self.world.deliver(followed.start, followed=followed)
        self.world.hear()

    @rule(ends=st.booleans())
    def all_goes_well_for_a_while(self, *, ends: bool) -> None:
        world = self.world
        world.catch_up()
        world.look()
        for box in world.own():
            world.run_container(box)
        world.catch_up()
        world.look()
        self.orders_arrive_and_are_answered()
        if ends:
            self._tools_end(Reason.COMPLETED)
            world.catch_up()
            world.look()

    # --- the cluster ---

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 15.0, 130.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.world.boxes)
    @rule(number=st.integers(0, 5))
    def a_container_starts(self, number: int) -> None:
        self.world.run_container(self._box(number))

    @precondition(lambda self: self.world.boxes)
    @rule(number=st.integers(0, 5), how=st.sampled_from(["Completed", "Error", "OOMKilled", "StartError"]))
    def a_container_ends(self, number: int, how: str) -> None:
        box = self._box(number)
        if box.terminated is None and box.running:
            self.world.end_container(box, how, {"Completed": 0, "Error": 1, "OOMKilled": 137}.get(how, 128))

    @precondition(lambda self: self.world.boxes)
    @rule(
        number=st.integers(0, 5),
        why=st.sampled_from([None, "EvictionByEvictionAPI", "DeletionByPodGC", "PreemptionByScheduler"]),
        told=st.booleans(),
    )
    def a_pod_is_deleted(self, number: int, why: str | None, *, told: bool) -> None:
        """The runner may still say that it was ended."""
        box = self._box(number)
        box.deleting, box.disruption = True, why
        if told:
            self.world.end_tool(box, Reason.CANCELLED)

    @rule()
    def deleted_pods_go(self) -> None:
        for box in list(self.world.boxes.values()):
            if box.deleting:
                self.world.bury(box)

    @precondition(lambda self: self.world.boxes)
    @rule(number=st.integers(0, 5))
    def an_image_cannot_be_fetched(self, number: int) -> None:
        self._box(number).waiting = "ErrImagePull"

    @rule(reason=st.sampled_from([Reason.QUOTA_EXCEEDED, Reason.ADMISSION_REFUSED, Reason.SANDBOX_FAILED]))
    def the_next_pod_is_refused(self, reason: Reason) -> None:
        self.world.next_refusal = Refusal(reason, "no", retry_after_seconds=7)

    @rule(reason=st.sampled_from([Reason.COMPLETED, Reason.TOOL_ERROR, Reason.SANDBOX_FAILED]))
    def tools_end(self, reason: Reason) -> None:
        self._tools_end(reason)

    @precondition(lambda self: self.world.when_empty is not None)
    @rule()
    def the_pool_is_refilled(self) -> None:
        self.world.add_waiting()

    @precondition(lambda self: self.world.boxes)
    @rule(number=st.integers(0, 5))
    def a_sandbox_of_the_pool_serves_somebody_else(self, number: int) -> None:
        box = self._box(number)
        if box.attempt is None and box.owner is None:
            box.owner = OTHER

    # --- people ---

    @rule()
    def the_task_is_cancelled(self) -> None:
        if not self.world.ended:
            self.world.touch(cancel=True)

    @rule()
    def somebody_else_writes_to_the_task(self) -> None:
        if not self.world.ended:
            self.world.touch()

    # --- promises ---

    @invariant()
    def an_attempt_begins_once(self) -> None:
        if not hasattr(self, "world"):
            return
        for attempt, pods in self.world.begun.items():
            assert len(pods) == 1, f"{attempt} began in {pods}"

    @invariant()
    def only_what_may_run_twice_does(self) -> None:
        if not hasattr(self, "world"):
            return
        attempts: defaultdict[str, set[int]] = defaultdict(set)
        for execution, attempt in self.world.begun:
            attempts[execution].add(attempt)
        spec = self.world.body["spec"]
        tools = {step["name"]: step["tool"] for step in spec.get("steps", ())} or {"main": spec.get("tool")}
        for execution, numbers in attempts.items():
            assert len(numbers) == 1 or tools[execution].endswith("again"), f"{execution} ran {numbers}"
            assert max(numbers) <= (RETRY["maxAttempts"] if "retry" in spec else 1)

    def teardown(self) -> None:
        """Left alone, the task comes to its end, and nothing of it is left behind."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.next_refusal = None
        for _ in range(80):
            if world.ended:
                break
            if world.when_empty is WhenEmpty.QUEUE:
                world.add_waiting()
            self.deleted_pods_go()
            world.catch_up()
            world.look()
            for box in world.own():
                world.run_container(box)
            world.catch_up()
            self.orders_arrive_and_are_answered()
            self._tools_end(Reason.COMPLETED)
            world.now += timedelta(seconds=20)
        assert world.ended, f"it does not end: {world.status}"
        for message in world.retried:
            assert any(f"ended with {reason}:" in message for reason in RETRY["reasons"]), message
        world.catch_up()
        world.look()
        left = [box for box in world.own() if not box.deleting]
        assert not left, f"left behind: {left}"
        used = [box for box in world.boxes.values() if box.owner is not None and box.owner.uid.startswith(TASK.uid)]
        assert all(box.deleting for box in used), f"a used sandbox was kept: {used}"

    # --- looking ---

    def _box(self, number: int) -> Box:
        boxes = list(self.world.boxes.values())
        return boxes[number % len(boxes)]

    def _tools_end(self, reason: Reason) -> None:
        world = self.world
        for box in list(world.boxes.values()):
            if box.program and box.running:
                ends = {Reason.COMPLETED: ("Completed", 0), Reason.TOOL_ERROR: ("Error", 3)}
                world.end_container(box, *ends.get(reason, ("Error", 137)))
            elif box.running:
                world.end_tool(box, reason)
        world.hear()


TestB13TaskSimulation = TaskMachine.TestCase
TestB13TaskSimulation.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
