"""A task in a cluster that does what it likes, under an operator that dies: whatever happens, the promises hold.

Each history follows from its number, so that a failure can be run again: the message has the number and what happened.
"""

import random
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest

from corral.api import Reason, WhenEmpty
from corral_operator.decisions.observed import Refusal
from unit.operator.task_factories import TASK
from unit.operator.world import OTHER, Box, World

RETRY = {"maxAttempts": 3, "reasons": ["SandboxFailed", "NodeLost", "Evicted"], "backoff": "1s"}
RUNNABLE = ["once", "again", "program", "program-again"]
_HISTORIES, _PARTS, _STEPS = 200, 4, 30
_DISRUPTIONS = [None, "EvictionByEvictionAPI", "DeletionByPodGC", "PreemptionByScheduler"]
_EXIT_CODES = {"Completed": 0, "Error": 1, "OOMKilled": 137, "StartError": 128}


def _spec(rng: random.Random) -> dict[str, Any]:
    """One tool, or a chain whose steps may need each other."""
    spec: dict[str, Any] = {}
    if rng.random() < 0.5:
        spec["tool"] = rng.choice(RUNNABLE)
    else:
        steps: list[dict[str, Any]] = [
            {"name": f"s{n}", "tool": rng.choice(RUNNABLE), "onFailure": rng.choice(["Stop", "Continue"])}
            for n in range(rng.randint(2, 4))
        ]
        if rng.random() < 0.5:
            steps[-1]["arguments"] = {"x": "$(steps.s0.result)"}
        spec |= {"steps": steps, "strategy": rng.choice(["Sequential", "Parallel"])}
    if rng.random() < 0.6:
        spec["retry"] = RETRY
    if rng.random() < 0.2:
        spec["activeDeadlineSeconds"] = rng.choice([2, 60])
    return spec


class _History:
    """What may happen, and how often."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.world = World(_spec(rng), when_empty=rng.choice([None, *WhenEmpty]))
        for _ in range(rng.randint(0, 3)):
            self.world.add_waiting()
        self.world.catch_up()
        #: Each history has its own mix, so that each kind of trouble also comes alone.
        kinds = {
            self.look: 8,
            self.catch_up: 6,
            self.orders_arrive: 6,
            self.time_passes: 4,
            self.goes_well: 3,
        }
        troubles = [
            self.dies, self.dies_within_a_look, self.answer_is_lost, self.late_order_arrives,
            self.container_ends, self.pod_is_deleted, self.image_fails, self.pod_is_refused,
            self.tools_end, self.somebody_else_is_served, self.is_cancelled, self.is_touched,
        ]  # fmt: skip
        kinds |= dict.fromkeys(rng.sample(troubles, rng.randint(1, len(troubles))), 2)
        kinds |= {self.container_starts: 3, self.deleted_pods_go: 2, self.refill: 2}
        self.acts, self.weights = list(kinds), list(kinds.values())
        self.told: list[str] = []

    def run(self) -> None:
        for act in self.rng.choices(self.acts, self.weights, k=_STEPS):
            self.told.append(act.__name__)
            act()
            self.check()
        self.come_to_the_end()

    # --- the operator ---

    def look(self) -> None:
        self.world.look()

    def dies_within_a_look(self) -> None:
        self.world.look(dies_after=self.rng.randint(0, 3))

    def answer_is_lost(self) -> None:
        self.world.look(answer_lost=True)

    def dies(self) -> None:
        self.world.crash()

    def catch_up(self) -> None:
        self.world.catch_up()

    def late_order_arrives(self) -> None:
        if self.world.late:
            self.world.deliver(self.world.late.pop(0))

    def orders_arrive(self) -> None:
        for followed in list(self.world.memory.runs.values()):
            if not followed.arrived:
                self.world.deliver(followed.start, followed=followed)
        self.world.hear()

    def goes_well(self) -> None:
        world = self.world
        self.catch_up()
        self.look()
        for box in world.own():
            world.run_container(box)
        self.catch_up()
        self.look()
        self.orders_arrive()

    # --- the cluster ---

    def time_passes(self) -> None:
        self.world.now += timedelta(seconds=self.rng.choice([0.5, 2.0, 4.0, 15.0, 130.0, 400.0]))

    def container_starts(self) -> None:
        for box in self._some_box():
            self.world.run_container(box)

    def container_ends(self) -> None:
        for box in self._some_box():
            how = self.rng.choice(list(_EXIT_CODES))
            if box.terminated is None and box.running is (how != "StartError"):
                self.world.end_container(box, how, _EXIT_CODES[how])

    def pod_is_deleted(self) -> None:
        """The runner may still say that it was ended."""
        for box in self._some_box():
            box.deleting, box.disruption = True, self.rng.choice(_DISRUPTIONS)
            if self.rng.random() < 0.5:
                self.world.end_tool(box, Reason.CANCELLED)

    def deleted_pods_go(self) -> None:
        for box in list(self.world.boxes.values()):
            if box.deleting:
                self.world.bury(box)

    def image_fails(self) -> None:
        for box in self._some_box():
            box.waiting = "ErrImagePull"

    def pod_is_refused(self) -> None:
        reasons = [Reason.QUOTA_EXCEEDED, Reason.ADMISSION_REFUSED, Reason.SANDBOX_FAILED]
        self.world.next_refusal = Refusal(self.rng.choice(reasons), "no", retry_after_seconds=7)

    def tools_end(self, reason: Reason | None = None) -> None:
        world, ends = self.world, {Reason.COMPLETED: ("Completed", 0), Reason.TOOL_ERROR: ("Error", 3)}
        reason = reason or self.rng.choice([Reason.COMPLETED, Reason.TOOL_ERROR, Reason.SANDBOX_FAILED])
        for box in world.boxes.values():
            if box.program and box.running:
                world.end_container(box, *ends.get(reason, ("Error", 137)))
            elif box.running:
                world.end_tool(box, reason)
        world.hear()

    def refill(self) -> None:
        if self.world.when_empty is not None:
            self.world.add_waiting()

    def somebody_else_is_served(self) -> None:
        for box in self._some_box():
            if box.attempt is None and box.owner is None:
                box.owner = OTHER

    # --- people ---

    def is_cancelled(self) -> None:
        if not self.world.ended and self.rng.random() < 0.4:
            self.world.touch(cancel=True)

    def is_touched(self) -> None:
        if not self.world.ended:
            self.world.touch()

    # --- promises ---

    def check(self) -> None:
        world, spec = self.world, self.world.body["spec"]
        tools = {step["name"]: step["tool"] for step in spec.get("steps", ())} or {"main": spec.get("tool")}
        attempts: defaultdict[str, set[int]] = defaultdict(set)
        for (execution, attempt), pods in world.begun.items():
            # A program that may run twice is made again where nobody knows whether it was made.
            assert len(pods) == 1 or tools[execution] == "program-again", (
                f"attempt {attempt} of {execution} began in {pods}"
            )
            attempts[execution].add(attempt)
        for execution, numbers in attempts.items():
            assert len(numbers) == 1 or tools[execution].endswith("again"), f"{execution} ran {numbers}"
            assert max(numbers) <= (3 if "retry" in spec else 1)

    def come_to_the_end(self) -> None:
        """Left alone, the task ends, and nothing of it is left behind."""
        world = self.world
        world.next_refusal = None
        for _ in range(80):
            if world.ended:
                break
            if world.when_empty is WhenEmpty.QUEUE:
                world.add_waiting()
            self.deleted_pods_go()
            self.goes_well()
            self.tools_end(Reason.COMPLETED)
            world.now += timedelta(seconds=20)
        self.check()
        assert world.ended, f"it does not end: {world.status}"
        for message in world.retried:
            assert any(f"ended with {reason}:" in message for reason in RETRY["reasons"]), message  # type: ignore[attr-defined]
        self.catch_up()
        self.look()
        left = [box for box in world.own() if not box.deleting]
        assert not left, f"left behind: {left}"
        used = [box for box in world.boxes.values() if box.owner and box.owner.uid.startswith(TASK.uid)]
        assert all(box.deleting for box in used), f"a used sandbox was kept: {used}"

    def _some_box(self) -> list[Box]:
        boxes = list(self.world.boxes.values())
        return [self.rng.choice(boxes)] if boxes else []


@pytest.mark.parametrize("part", range(_PARTS))
def test_B13_whatever_happens_a_task_ends_once_starts_once_and_leaves_nothing(part: int) -> None:
    for seed in range(part, _HISTORIES, _PARTS):
        history = _History(seed)
        try:
            history.run()
        except Exception as error:
            body = history.world.body
            raise AssertionError(f"history {seed}: {error}\n{body['spec']}\n{history.told}") from error
