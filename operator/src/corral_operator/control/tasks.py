"""Looks at tasks: observes, lets decide, writes the status, then acts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from corral.api import AgentTaskStatus, Problem, Tool
from corral.catalogue.checker import ArgumentChecker
from corral.cluster.port import (
    AGENT_TASKS,
    PODS,
    Cluster,
    ClusterError,
    Conflict,
    NotFound,
    ObjectKey,
    Refused,
    Unavailable,
)
from corral.policy import Policy
from corral_operator.clock import Clock
from corral_operator.control.acting import Actor
from corral_operator.control.measuring import measure
from corral_operator.control.memory import TaskMemory
from corral_operator.control.observing import observe
from corral_operator.control.pools import Pools
from corral_operator.control.runs import Runs
from corral_operator.control.store import Store
from corral_operator.control.workers import Workers
from corral_operator.decisions.actions import CreatePod, Plan, Tell
from corral_operator.decisions.observed import Rules, UncheckedError, UnheardOfError
from corral_operator.decisions.refused_status import brings_an_end, end_without_result, is_for_good
from corral_operator.decisions.task import decide
from corral_operator.decisions.task_view import FinishedTask, TaskView, task_of
from corral_operator.metrics import RECONCILE_ERRORS
from corral_operator.settings import Settings

log = logging.getLogger(__name__)

#: Only somebody who changes the cluster can help a task whose every status is refused; people take minutes.
_REFUSED_PAUSE = timedelta(minutes=10)

#: Called with a namespace and the name of a tool; the store knows the tool as it is in the cluster when it returns.
LookUp = Callable[[str, str], Awaitable[None]]


class Tasks:
    """Every task that has not ended, each looked at when something about it changed."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        pools: Pools,
        runs: Runs,
        actor: Actor,
        clock: Clock,
        settings: Settings,
        policy: Policy,
        checker: ArgumentChecker,
        look_up: LookUp,
        may_act: Callable[[], bool],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._pools = pools
        self._runs = runs
        self._actor = actor
        self._clock = clock
        self._settings = settings
        self._policy = policy
        self._checker = checker
        self._look_up = look_up
        self._memories: dict[str, TaskMemory] = {}
        self._workers: Workers[str] = Workers(self._look, "task", may_act)
        #: Whether somebody enforces NetworkPolicies; set by the probe.
        self.policies_enforced: bool | None = None

    def kick(self, uid: str) -> None:
        """Look at a task as soon as possible."""
        self._workers.kick(uid)

    def gone(self, task: TaskView | FinishedTask) -> None:
        """Clean up after a task that was deleted: what runs of it ends, and its pods go."""
        self._workers.forget(task.key.uid)
        self._actor.task_is_gone(task)
        self._let_go(task.key.uid, task.pods if isinstance(task, FinishedTask) else _assigned_pods(task))

    def halt(self) -> None:
        """Let nobody go on, from this moment."""
        self._workers.halt()

    async def close(self) -> None:
        """Stop looking; what runs in the sandboxes goes on."""
        await self._workers.close()
        self._memories.clear()

    async def _look(self, uid: str) -> float | None:
        task = self._store.tasks.get(uid)
        if task is None:
            return None
        if isinstance(task, FinishedTask):
            return self._after_the_end(task)
        memory = self._memories.setdefault(uid, TaskMemory(self._clock.now()))
        if memory.refused_until is not None and self._clock.now() < memory.refused_until:
            return self._clock.loop_time(memory.refused_until)
        if memory.unsure:
            await self._read_again(task.key)
            memory.unsure = False
            return await self._look(uid)
        await self._look_for_pods(task, memory)
        plan = await self._decide(task, memory)
        for _execution, pod in plan.claims:
            self._pools.claim(pod, task)
        self._pools.wait(uid, task, [(one.execution, one.pool) for one in plan.waiting])
        if plan.status is not None:
            written = await self._write(task, memory, plan)
            if written is None:
                self.kick(uid)
                return None
            plan = written
        for action in plan.actions:
            await self._actor.act(task, memory, action)
        if plan.status is not None:
            self._give_back(task, plan.status)
        if plan.status is not None and plan.status.completion_time is not None:
            self.kick(uid)  # what an ended task still needs; no watch tells of what we wrote ourselves
        return None if plan.wake_at is None else self._clock.loop_time(plan.wake_at)

    async def _decide(self, task: TaskView, memory: TaskMemory) -> Plan:
        """Decide about what is there at the moment of returning."""
        while self._store.tasks.get(task.key.uid) is not None:
            catalogue = self._store.catalogue(task.key.namespace)
            rules = Rules(
                self._settings, self._policy, catalogue, self.policies_enforced, self._known_problems
            )
            observed = observe(task, memory, self._store, self._pools, self._runs)
            try:
                return decide(task, observed, self._clock.now(), rules)
            except UnheardOfError as unheard:
                await asyncio.gather(*(self._look_up(task.key.namespace, tool) for tool in unheard.tools))
                memory.looked_up |= unheard.tools
            except UncheckedError as unchecked:
                await self._checker.check(unchecked.tool, unchecked.arguments)
        return Plan()  # it went while something was found out

    def _known_problems(self, tool: Tool, arguments: Mapping[str, Any]) -> Sequence[Problem]:
        found = self._checker.known(tool, arguments)
        if found is None:
            raise UncheckedError(tool, arguments)
        return found

    async def _write(self, task: TaskView, memory: TaskMemory, plan: Plan) -> Plan | None:
        """Write the status, if nobody wrote to the task meanwhile. Otherwise nothing of the plan holds.

        Returns:
            The plan whose status stands now. It is another one where the API server refused what an execution
            brought, and would again: then the task ends and says so. None: no status was written.
        """
        assert plan.status is not None
        try:
            return plan if await self._patch(task, memory, plan) else None
        except Refused as error:
            if not (is_for_good(error.status) and brings_an_end(task.status, plan.status)):
                raise
            log.warning("status of %s: refused: %s %.300s", task.key.name, error.status, error)
            last = end_without_result(task, plan.status, error.status, str(error), self._clock.now())
        try:
            return last if await self._patch(task, memory, last) else None
        except Refused as error:
            if not is_for_good(error.status):
                raise
            message = f"the API server refuses every status of this task: {error.status}: {str(error)[:300]}"
            log.error("%s: %s", task.key.name, message)  # noqa: TRY400 - what it says is all there is to know
            RECONCILE_ERRORS.labels("StatusRefused").inc()
            await self._actor.act(task, memory, Tell("Warning", "StatusRefused", message))
            memory.refused_until = self._clock.now() + _REFUSED_PAUSE
            self._pools.leave(task)
            return None

    async def _patch(self, task: TaskView, memory: TaskMemory, plan: Plan) -> bool:
        assert plan.status is not None
        before = task.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        wire: dict[str, Any] = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        for name in before.keys() - wire.keys():
            wire[name] = None  # a merge patch takes out what is null, and keeps what is absent
        body = {
            "metadata": {"uid": task.key.uid, "resourceVersion": task.resource_version},
            "status": wire,
        }
        try:
            answer = await self._cluster.patch(
                AGENT_TASKS, task.key.namespace, task.key.name, body, subresource="status"
            )
        except Conflict as error:
            log.info("status of %s: %s; reading it again", task.key.name, error)
            memory.unsure = True
            return False
        except Unavailable:
            memory.unsure = True  # whether it was written is not known; the next look comes after a pause
            raise
        except NotFound:
            self._forget(task.key)
            return False
        except ClusterError:
            self._pools.release(task.key.uid, keep={pod.uid for pod in _assigned_pods(task)})
            raise
        self._store.tasks.put(answer)
        if plan.status.queue_position != task.status.queue_position:
            memory.position_told = self._clock.now()
        memory.assigned |= {
            (action.execution, action.attempt)
            for action in plan.actions
            if isinstance(action, CreatePod) and action.program is not None
        }
        measure(task, plan)
        return True

    async def _read_again(self, key: ObjectKey) -> None:
        """Find out what stands now. Claims that it does not have are given back, those that it has are known."""
        try:
            body = await self._cluster.get(AGENT_TASKS, key.namespace, key.name)
        except NotFound:
            self._forget(key)
            return
        if body["metadata"]["uid"] != key.uid:
            self._forget(key)
            return
        self._store.tasks.put(body)
        now = task_of(body)
        pods = now.pods if isinstance(now, FinishedTask) else _assigned_pods(now)
        self._pools.release(key.uid, keep={pod.uid for pod in pods})
        if isinstance(now, TaskView):
            # Another operator may have given it sandboxes; the watch, told of this version, has no news to tell.
            self._pools.claims.adopt(now)

    def _give_back(self, before: TaskView, status: AgentTaskStatus) -> None:
        """Give up the claims on sandboxes that a task had, and has not any more."""
        now = _pods_in(status, before.key.namespace)
        if not {*_assigned_pods(before)} <= {*now}:
            self._pools.release(before.key.uid, keep={pod.uid for pod in now})

    def _forget(self, key: ObjectKey) -> None:
        """Take note that a task does not exist any more, before a watch tells."""
        identity = {"namespace": key.namespace, "name": key.name, "uid": key.uid}
        task = self._store.tasks.remove({"metadata": identity})
        if task is not None:
            self.gone(task)
        else:  # a watch was faster, and this look went on with what it had
            self._let_go(key.uid, ())

    def _after_the_end(self, task: FinishedTask) -> float | None:
        """What an ended task still needs: its pods gone, and itself when its time is over."""
        self._let_go(task.key.uid, task.pods)
        if task.delete_at is None:
            return None
        if self._clock.now() >= task.delete_at:
            self._actor.delete_task(task.key)
            return None
        return self._clock.loop_time(task.delete_at)

    def _let_go(self, uid: str, pods: tuple[ObjectKey, ...]) -> None:
        self._memories.pop(uid, None)
        self._runs.drop_task(uid)
        self._pools.queues.forget(uid)
        owned = {pod.key for pod in self._store.pods.owned_by(uid)}
        # Not what it had claimed besides: that stands in no status of it, so it may stand in another task's.
        for pod in {*pods, *owned}:
            self._actor.delete_pod(pod, uid)
        self._pools.release(uid, keep=())

    async def _look_for_pods(self, task: TaskView, memory: TaskMemory) -> None:
        """Ask for pods that stand in the status and were never seen: a watch of pods may be behind that of tasks."""
        for execution in task.status.executions:
            sandbox = execution.sandbox
            name = sandbox.pod_name if sandbox is not None and execution.reason is None else None
            if (
                name is None
                or name in memory.absent
                or self._store.pods.named(task.key.namespace, name) is not None
                or self._store.last_seen(task.key.namespace, name) is not None
            ):
                continue
            try:
                self._store.pods.put(await self._cluster.get(PODS, task.key.namespace, name))
            except NotFound:
                memory.absent.add(name)


def _assigned_pods(task: TaskView) -> tuple[ObjectKey, ...]:
    return _pods_in(task.status, task.key.namespace)


def _pods_in(status: AgentTaskStatus, namespace: str) -> tuple[ObjectKey, ...]:
    return tuple(
        ObjectKey(namespace, sandbox.pod_name, sandbox.pod_uid)
        for execution in status.executions
        if (sandbox := execution.sandbox) is not None and sandbox.pod_name and sandbox.pod_uid
    )
