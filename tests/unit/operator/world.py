"""A cluster around one task, for the decisions to be driven in: it lags, refuses, and loses whatever it can.

What the operator does here is what ``control.tasks`` does, without waiting: observe, decide, write, act.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from corral.api import AgentTaskStatus, ExecutionStatus, OnFailure, Reason, StepOutcome, WhenEmpty
from corral.api.chain import fatal_step
from corral.cluster.port import ObjectKey
from corral.sandbox.port import Owner
from corral_operator.decisions.actions import (
    Ask,
    Cancel,
    CreatePod,
    DeletePod,
    Plan,
    ReadLog,
    Resize,
    Start,
    Tell,
)
from corral_operator.decisions.observed import Observed, Printed, Refusal, Rules, RunView
from corral_operator.decisions.task import decide
from corral_operator.decisions.task_view import TaskView, task_view
from corral_operator.names import cold_pod_name
from corral_operator.views import PodView
from unit.operator.factories import NOW, POOL, pod, terminated, text, waiting
from unit.operator.task_factories import RULES, TASK, pool, result, task_body

#: A stranger's task.
OTHER = Owner("other-uid/main", 1)


@dataclass
class Box:
    """A pod, and what runs in it."""

    name: str
    uid: str
    created: datetime
    owner_uid: str
    #: Of the attempt that it was made for; None for one of the pool.
    attempt: tuple[str, int] | None = None
    program: bool = False
    running: bool = False
    started_at: datetime | None = None
    terminated: tuple[str, int] | None = None
    deleting: bool = False
    disruption: str | None = None
    waiting: str = "ContainerCreating"
    #: Whom its runner serves.
    owner: Owner | None = None
    #: What its runner was told to run, and how that ended.
    ran: dict[str, ExecutionStatus | None] = field(default_factory=dict)

    def view(self, now: datetime) -> PodView:
        if self.terminated is not None:
            state, phase = terminated(*self.terminated), "Failed" if self.terminated[1] else "Succeeded"
        elif self.running:
            state, phase = {"running": {"startedAt": text(self.started_at or now)}}, "Running"
        else:
            state, phase = waiting(self.waiting), "Pending"
        seen = pod(
            self.name,
            now=now,
            age=(now - self.created).total_seconds(),
            state=state,
            phase=phase,
            deleting=self.deleting,
            ready=self.running and not self.deleting,
            disruption=self.disruption,
            owner_uid=self.owner_uid,
            podIP="10.0.0.7" if self.running else None,
        )
        return replace(seen, key=ObjectKey(TASK.namespace, self.name, self.uid))


@dataclass
class Followed:
    """An attempt that an operator has told a runner to start, or attached to."""

    start: Start
    attempt: int
    arrived: bool = False
    view: RunView = field(default_factory=RunView)


@dataclass
class Memory:
    """What an operator forgets when it dies."""

    seen: datetime
    task: TaskView
    pods: dict[str, PodView] = field(default_factory=dict)
    last_seen: dict[str, PodView] = field(default_factory=dict)
    made: set[tuple[str, int]] = field(default_factory=set)
    assigned: set[tuple[str, int]] = field(default_factory=set)
    refusals: dict[tuple[str, int], Refusal] = field(default_factory=dict)
    logs: dict[tuple[str, int], Printed] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    runs: dict[str, Followed] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)


class World:
    """One task, its pods, a pool, and an operator."""

    def __init__(self, spec: Mapping[str, Any], *, when_empty: WhenEmpty | None = None) -> None:
        self.now = NOW
        self.rules: Rules = RULES
        self.when_empty = when_empty
        self.body = task_body(spec, age=0)
        self.boxes: dict[str, Box] = {}
        #: Pods that went, as they were last.
        self.buried: dict[str, PodView] = {}
        self.next_refusal: Refusal | None = None
        self.writes = 0
        self.looks = 0
        #: Which pods began an attempt.
        self.begun: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        #: Orders of operators that are dead, or were stopped, when they had not sent them yet.
        self.late: list[Start] = []
        self.retried: list[str] = []
        self._numbers = 0
        self.memory = self._fresh()

    # --- the API server ---

    @property
    def task(self) -> TaskView:
        return task_view(self.body)

    @property
    def status(self) -> AgentTaskStatus:
        return self.task.status

    @property
    def ended(self) -> bool:
        return "completionTime" in self.body.get("status", {})

    def touch(self, **spec: Any) -> None:
        """Somebody else writes to the task."""
        self.body = {**self.body, "spec": {**self.body["spec"], **spec}}
        self._bump()

    def _bump(self) -> None:
        version = int(self.body["metadata"]["resourceVersion"]) + 1
        self.body["metadata"] = {**self.body["metadata"], "resourceVersion": str(version)}

    def _write(self, seen: TaskView, status: AgentTaskStatus) -> bool:
        if self.body["metadata"]["resourceVersion"] != seen.resource_version:
            return False
        assert not self.ended, "a finished status was written again"
        before = seen.status
        _check_written(before, status)
        wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.body = {**self.body, "status": wire}
        self._bump()
        self.writes += 1
        return True

    # --- pods ---

    def add_waiting(self) -> None:
        """The pool gets a sandbox."""
        self._numbers += 1
        name = f"warm-{self._numbers}"
        self.boxes[name] = Box(name, f"uid-{name}", self.now, POOL.uid, running=True, started_at=self.now)

    def own(self) -> list[Box]:
        """Return the pods that were made for the task."""
        return [box for box in self.boxes.values() if box.owner_uid == TASK.uid]

    def run_container(self, box: Box) -> None:
        """The kubelet starts the container."""
        if box.running or box.terminated is not None or box.deleting:
            return
        box.running, box.started_at = True, self.now
        if box.program:
            assert box.attempt is not None
            self.begun[box.attempt].add(box.uid)

    def end_container(self, box: Box, why: str, code: int) -> None:
        """The container ends, and everything in it."""
        box.running, box.terminated = False, (why, code)

    def bury(self, box: Box) -> None:
        """The pod is gone."""
        if box.terminated is None and box.running:
            self.end_container(box, "Error", 137)
        box.deleting = True
        self.buried[box.name] = box.view(self.now)
        del self.boxes[box.name]

    # --- runners ---

    def deliver(self, start: Start, *, followed: Followed | None = None) -> None:
        """An order reaches its runner; what the runner answers is told to whoever follows."""
        box = self.boxes.get(start.pod.name)
        if box is None or box.uid != start.pod.uid or not box.running:
            return  # told by ``hear``, once the pod is known to be gone
        view: RunView | None = None
        if box.owner not in {None, start.owner}:
            view = RunView(never_started="the sandbox has served another task")
        elif start.execution not in box.ran:
            if start.request is None:
                view = RunView(never_started="the sandbox was never told what to run")
            else:
                box.owner = start.owner
                box.ran[start.execution] = None
                self.begun[start.execution, start.owner.attempt].add(box.uid)
        if followed is not None:
            followed.arrived = True
            followed.view = view or followed.view

    def end_tool(self, box: Box, reason: Reason) -> None:
        """The tools of a sandbox end."""
        for name, ended in box.ran.items():
            if ended is None and box.owner is not None:
                value = {"value": 1} if reason is Reason.COMPLETED else None
                execution = next((e for e in self.status.executions if e.name == name), None)
                box.ran[name] = result(
                    reason,
                    name=name,
                    tool=execution.tool if execution is not None else "once",
                    attempt=box.owner.attempt,
                    value=value,
                    stdout="printed",
                    started=self.now,
                    finished=self.now,
                )

    def hear(self) -> None:
        """What runners have told, or that they are gone, becomes known to the operator."""
        for followed in self.memory.runs.values():
            view = followed.view
            if view.ended or view.lost or view.never_started:
                continue
            box = self.boxes.get(followed.start.pod.name)
            if box is None or box.uid != followed.start.pod.uid or box.terminated is not None:
                followed.view = replace(
                    view, lost="the pod is gone", over_at=self.now, began=followed.arrived
                )
            elif followed.arrived and (ended := box.ran.get(followed.start.execution)) is not None:
                followed.view = replace(view, ended=ended, over_at=self.now, began=True, told=True)

    # --- the operator ---

    def _fresh(self) -> Memory:
        memory = Memory(self.now, self.task)
        memory.pods = {name: box.view(self.now) for name, box in self.boxes.items()}
        memory.claims = {
            e.sandbox.pod_uid or "" for e in memory.task.status.executions if e.sandbox and e.reason is None
        }
        return memory

    def crash(self) -> None:
        """The operator dies; another one lists everything and knows nothing else."""
        self.memory = self._fresh()

    def catch_up(self) -> None:
        """The watches deliver what they owe."""
        memory = self.memory
        for name, view in list(memory.pods.items()):
            if name not in self.boxes or self.boxes[name].uid != view.key.uid:
                memory.last_seen[name] = self.buried.get(name, view)
        memory.pods = {name: box.view(self.now) for name, box in self.boxes.items()}
        memory.task = self.task

    def observe(self) -> Observed:
        """What ``control.tasks`` observes."""
        memory, task = self.memory, self.memory.task
        attempts = {e.name: e.attempt for e in task.status.executions}
        names = {e.sandbox.pod_name for e in task.status.executions if e.sandbox and e.sandbox.pod_name}
        steps = [step.name for step in task.spec.steps] or ["main"] if task.spec is not None else []
        for execution, attempt in {*memory.made, *attempts.items(), *((step, 1) for step in steps)}:
            for number in range(1, attempt + 1):
                names.add(cold_pod_name(TASK.name, TASK.uid, execution, number))
        pods = {name: memory.pods[name] for name in names if name in memory.pods}
        sandboxes = {e.name: e.sandbox.pod_uid for e in task.status.executions if e.sandbox}
        return Observed(
            seen=memory.seen,
            pods=pods,
            absent=frozenset(memory.absent),
            last_seen={n: memory.last_seen[n] for n in names - pods.keys() if n in memory.last_seen},
            runs={
                name: followed.view
                for name, followed in memory.runs.items()
                if attempts.get(name) == followed.attempt and sandboxes.get(name) == followed.start.pod.uid
            },
            refusals={
                n: why for (n, attempt), why in memory.refusals.items() if attempts.get(n, 1) == attempt
            },
            made=frozenset(n for n, attempt in memory.made if attempts.get(n, 1) == attempt),
            assigned=frozenset(
                n for n, attempt in memory.assigned - memory.made if attempts.get(n, 1) == attempt
            ),
            pools=() if self.when_empty is None else (pool(*self._ready(), empty=self.when_empty),),
            logs={n: log for (n, attempt), log in memory.logs.items() if attempts.get(n) == attempt},
        )

    def _ready(self) -> Iterable[PodView]:
        memory = self.memory
        return [
            view
            for view in memory.pods.values()
            if view.owner_uid == POOL.uid
            and view.key.uid not in memory.claims | memory.spent
            and not view.ended
        ]

    def look(self, *, dies_after: int | None = None, answer_lost: bool = False) -> Plan | None:
        """Look at the task once.

        Args:
            dies_after: so many acts (the write is the first); what then remains is not done, or much later.
            answer_lost: the status is written and the operator does not hear of it.
        """
        memory = self.memory
        if memory.task.status.completion_time is not None:
            self._after_the_end()
            return None
        self.looks += 1
        self._look_for_pods()
        seen = memory.task
        plan = decide(seen, self.observe(), self.now, self.rules)
        check_plan(self, seen, plan)
        memory.claims |= {key.uid for _, key in plan.claims}
        if plan.status is not None:
            if not self._write(seen, plan.status) or answer_lost:
                memory.task = self.task
                self._release()
                return plan
            memory.task = self.task
            memory.assigned |= {
                (a.execution, a.attempt)
                for a in plan.actions
                if isinstance(a, CreatePod) and a.program is not None
            }
            if memory.task.status.completion_time is None:
                second = decide(memory.task, self.observe(), self.now, self.rules)
                assert second.status is None, f"the status is written twice: {plan.status} {second.status}"
        for number, action in enumerate(plan.actions, start=1):
            if dies_after is not None and number > dies_after:
                self.late += [each for each in plan.actions[number - 1 :] if isinstance(each, Start)]
                break
            self._act(action)
        if dies_after is not None:
            self.crash()
        return plan

    def _release(self) -> None:
        self.memory.claims = {
            e.sandbox.pod_uid or "" for e in self.memory.task.status.executions if e.sandbox is not None
        }

    def _look_for_pods(self) -> None:
        memory = self.memory
        for execution in memory.task.status.executions:
            name = execution.sandbox.pod_name if execution.sandbox and execution.reason is None else None
            if name is None or name in memory.pods.keys() | memory.last_seen.keys() | memory.absent:
                continue
            if name in self.boxes:
                memory.pods[name] = self.boxes[name].view(self.now)
            else:
                memory.absent.add(name)

    def _act(self, action: object) -> None:
        match action:
            case CreatePod():
                self._create(action)
            case Start():
                self._start(action)
            case Cancel():
                followed = self.memory.runs.get(action.execution)
                if followed is not None and followed.view.cancelled_at is None:
                    followed.view = replace(followed.view, cancelled_at=self.now)
            case Ask():
                if (followed := self.memory.runs.get(action.execution)) is not None:
                    followed.view = replace(followed.view, asked_at=self.now)
            case ReadLog():
                self.memory.logs[action.execution, action.attempt] = Printed("printed", final=action.final)
            case DeletePod():
                self.memory.spent.add(action.pod.uid)
                self._delete(action.pod)
            case Tell() if action.reason == "Retrying":
                self.retried.append(action.message)
            case Tell() | Resize():
                pass
            case _:
                raise AssertionError(action)

    def _create(self, action: CreatePod) -> None:
        attempt = action.execution, action.attempt
        if self.next_refusal is not None:
            self.memory.refusals[attempt], self.next_refusal = self.next_refusal, None
            return
        if action.name not in self.boxes:
            self._numbers += 1
            self.boxes[action.name] = Box(
                action.name,
                f"uid-{action.name}-{self._numbers}",
                self.now,
                TASK.uid,
                attempt=attempt,
                program=action.program is not None,
            )
        self.memory.made.add(attempt)
        self.memory.absent.discard(action.name)
        self.memory.pods[action.name] = self.boxes[action.name].view(self.now)

    def _start(self, action: Start) -> None:
        written = {e.name: e for e in self.status.executions}.get(action.execution)
        # Somebody else may have written meanwhile; then the version that this look wrote no longer stands.
        if written is not None and written.attempt == action.owner.attempt and written.sandbox is not None:
            assert written.sandbox.pod_uid == action.pod.uid, "told to start before the status says so"
        known = self.memory.runs.get(action.execution)
        if known is None or (known.attempt, known.start.pod) != (action.owner.attempt, action.pod):
            self.memory.runs[action.execution] = Followed(action, action.owner.attempt)

    def _delete(self, key: ObjectKey) -> None:
        box = self.boxes.get(key.name)
        if box is not None and box.uid == key.uid:
            box.deleting = True

    def _after_the_end(self) -> None:
        """What ``Tasks._after_the_end`` does: by what stands in the status, and the claims."""
        named = {e.sandbox.pod_uid for e in self.memory.task.status.executions if e.sandbox is not None}
        for box in self.boxes.values():
            if box.uid in named | self.memory.claims or box.owner_uid == TASK.uid:
                box.deleting = True
        self.memory.claims.clear()


def _check_written(before: AgentTaskStatus, after: AgentTaskStatus) -> None:
    """What ended stays as it was; attempts go up one by one; an end has a reason and says it everywhere."""
    new = {execution.name: execution for execution in after.executions}
    for old in before.executions:
        if old.reason is not None:
            kept = new[old.name].model_dump(mode="json")
            assert kept == old.model_dump(mode="json"), f"{old.name} had ended and was changed"
        else:
            assert new[old.name].attempt in {old.attempt, old.attempt + 1}
    finished = next((one for one in after.conditions if one.type == "Finished"), None)
    assert (after.reason is not None) == (after.completion_time is not None) == (finished is not None)
    if finished is not None and after.reason is not None:
        assert (finished.status, finished.reason) == ("True", after.reason.value)
        assert all(execution.reason is not None for execution in after.executions), "it ended with open ends"


def check_plan(world: World, task: TaskView, plan: Plan) -> None:
    """What holds of every plan, whatever is observed."""
    spec, now = task.spec, world.now
    assert spec is not None
    assert plan.wake_at is None or plan.wake_at > now, "wakes up in the past, again and again"
    status = plan.status or task.status
    finished = {e.name: StepOutcome.of(e) for e in status.executions if e.reason is not None}
    executions = {execution.name: execution for execution in status.executions}
    for action in plan.actions:
        if isinstance(action, Start):
            sandbox = executions[action.execution].sandbox
            assert sandbox is not None, "a start without a sandbox in the status"
            assert sandbox.pod_uid == action.pod.uid
            assert executions[action.execution].attempt == action.owner.attempt
        if isinstance(action, DeletePod):
            seen = world.memory.pods.get(action.pod.name)
            named = {e.sandbox.pod_uid for e in task.status.executions if e.sandbox is not None}
            ours = seen is not None and seen.key == action.pod and seen.owner_uid == TASK.uid
            assert ours or action.pod.uid in named, "somebody else's pod is deleted"
    deadline = spec.active_deadline_seconds
    passed = deadline is not None and now >= task.created + timedelta(seconds=deadline)
    new = [a for a in plan.actions if isinstance(a, CreatePod) or (isinstance(a, Start) and a.request)]
    if task.cancel or passed:
        assert not new, "something starts after cancel or deadline"
        assert not plan.claims
    _check_stop(task, plan, executions)
    if status.reason is None and status.executions and not spec.steps:
        assert any(one.reason is None for one in status.executions), "all has ended and the task has not"
    if status.reason is None and fatal_step(spec, finished):
        assert any(one.reason is None for one in status.executions), (
            "the chain is over and the task has not ended"
        )
    if status.reason is not None:
        assert not new, "something starts as the task ends"
        assert not plan.waiting


def _check_stop(task: TaskView, plan: Plan, executions: Mapping[str, ExecutionStatus]) -> None:
    """After a step that ends the chain has failed, no other gets a sandbox; what began in the same look came before."""
    assert task.spec is not None
    order = [step.name for step in task.spec.steps]
    stop = {step.name for step in task.spec.steps if step.on_failure is OnFailure.STOP}
    failed = [e for e in executions.values() if e.name in stop and e.reason not in {None, Reason.COMPLETED}]
    before = {e.name for e in task.status.executions if e.reason is not None}
    served = [name for name, _ in plan.claims]
    served += [a.execution for a in plan.actions if isinstance(a, CreatePod) and a.program is None]
    for one in failed:
        late = [n for n in served if one.name in before or order.index(n) > order.index(one.name)]
        assert not late, f"{late} get a sandbox after {one.name} failed"
