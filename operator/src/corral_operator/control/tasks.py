"""Looks at tasks: observes, lets decide, writes the status, then acts."""

import base64
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from corral.api import AgentTaskSpec, ExecutionStatus
from corral.catalogue import Catalogue
from corral.policy import Policy
from corral_operator.builders.resize import resize_patch
from corral_operator.clock import Clock
from corral_operator.cluster.port import (
    AGENT_TASKS,
    PODS,
    SECRETS,
    AlreadyExists,
    Cluster,
    Conflict,
    NotFound,
    Refused,
    Unavailable,
)
from corral_operator.control.events import Events
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.pools import Pools
from corral_operator.control.runs import Runs
from corral_operator.control.store import Store
from corral_operator.control.workers import Background, Workers
from corral_operator.decisions.actions import (
    Action,
    Cancel,
    CreatePod,
    DeletePod,
    DeleteTask,
    Plan,
    Resize,
    Start,
    Tell,
)
from corral_operator.decisions.api_refusal import Later, api_refusal
from corral_operator.decisions.observed import Observed, Refusal, Rules
from corral_operator.decisions.programs import RUNNER
from corral_operator.decisions.task import decide
from corral_operator.decisions.task_view import FinishedTask, TaskView, task_of
from corral_operator.metrics import EXECUTIONS_STARTED, TASK_PHASE_SECONDS, TASKS_FINISHED
from corral_operator.names import CONTAINER, cold_pod_name
from corral_operator.settings import Settings
from corral_operator.views import Json, ObjectKey

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Memory:
    """What is remembered of a task beside its status, as long as this operator looks after it."""

    seen: datetime
    #: Attempts whose pod was made, and those whose pod was refused; of (execution, attempt).
    made: set[tuple[str, int]] = field(default_factory=set)
    assigned: set[tuple[str, int]] = field(default_factory=set)
    position_told: datetime | None = None
    refusals: dict[tuple[str, int], Refusal] = field(default_factory=dict)
    logs: dict[tuple[str, int], str] = field(default_factory=dict)


class Tasks:
    """Every task that has not ended, each looked at when something about it changed."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        pools: Pools,
        runs: Runs,
        maker: PodMaker,
        namespaces: Namespaces,
        events: Events,
        background: Background,
        clock: Clock,
        settings: Settings,
        policy: Policy,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._pools = pools
        self._runs = runs
        self._maker = maker
        self._namespaces = namespaces
        self._events = events
        self._background = background
        self._clock = clock
        self._settings = settings
        self._policy = policy
        self._memories: dict[str, _Memory] = {}
        self._workers: Workers[str] = Workers(self._look, "task")
        #: Whether somebody enforces NetworkPolicies; set by the probe.
        self.policies_enforced: bool | None = None

    def kick(self, uid: str) -> None:
        """Look at a task as soon as possible."""
        self._workers.kick(uid)

    def gone(self, task: TaskView | FinishedTask) -> None:
        """Clean up after a task that was deleted: what runs of it ends, and its pods go."""
        uid = task.key.uid
        self._workers.forget(uid)
        self._memories.pop(uid, None)
        self._runs.drop_task(uid)
        self._pools.queues.forget(uid)
        keys = task.pods if isinstance(task, FinishedTask) else _assigned_pods(task)
        for key in {*keys, *self._pools.claimed_by(uid)}:
            self._delete_pod(key)
        self._pools.release(uid, keep=frozenset())

    async def close(self) -> None:
        """Stop looking; what runs in the sandboxes goes on."""
        await self._workers.close()
        self._memories.clear()

    # --- one look ---

    async def _look(self, uid: str) -> float | None:
        task = self._store.tasks.get(uid)
        if task is None:
            return None
        if isinstance(task, FinishedTask):
            return self._after_the_end(task)
        memory = self._memories.setdefault(uid, _Memory(self._clock.now()))
        rules = Rules(
            self._settings, self._policy, self._catalogue(task.key.namespace), self.policies_enforced
        )
        await self._fetch_logs(task, memory)
        plan = decide(task, self._observe(task, memory), self._clock.now(), rules)
        for execution, pod in plan.claims:
            self._pools.claim(pod, task, execution)
        self._pools.wait(uid, task, [(one.execution, one.pool) for one in plan.waiting])
        if plan.status is not None:
            written = await self._write(task, plan)
            if not written:
                self.kick(uid)
                return None
            if plan.status.queue_position != task.status.queue_position:
                memory.position_told = self._clock.now()
            memory.assigned |= {
                (action.execution, action.attempt)
                for action in plan.actions
                if isinstance(action, CreatePod) and action.program is not None
            }
            self._measure(plan)
        for action in plan.actions:
            await self._act(task, memory, action)
        return None if plan.wake_at is None else self._clock.loop_time(plan.wake_at)

    def _catalogue(self, namespace: str) -> Catalogue:
        return self._store.catalogue(namespace)

    def _observe(self, task: TaskView, memory: _Memory) -> Observed:
        uid, attempts = task.key.uid, {e.name: e.attempt for e in task.status.executions}
        names = {
            execution.sandbox.pod_name
            for execution in task.status.executions
            if execution.sandbox is not None and execution.sandbox.pod_name
        }
        for execution, attempt in memory.made | {(e.name, e.attempt) for e in task.status.executions}:
            names.add(cold_pod_name(task.key.name, uid, execution, attempt))
        for execution in _executions(task.spec):
            names.add(cold_pod_name(task.key.name, uid, execution, attempts.get(execution, 1)))
        pods = {
            name: pod
            for name in names
            if (pod := self._store.pods.named(task.key.namespace, name)) is not None
        }
        return Observed(
            seen=memory.seen,
            pods=pods,
            last_seen={
                name: pod
                for name in names - pods.keys()
                if (pod := self._store.last_seen(task.key.namespace, name)) is not None
            },
            runs=self._runs.views(uid, task.status.executions),
            refusals={
                name: refusal
                for (name, attempt), refusal in memory.refusals.items()
                if attempts.get(name, 1) == attempt
            },
            made=frozenset(name for name, attempt in memory.made if attempts.get(name, 1) == attempt),
            assigned=frozenset(
                name for name, attempt in memory.assigned - memory.made if attempts.get(name, 1) == attempt
            ),
            position_told=memory.position_told,
            pools=self._pools.supply(task),
            positions=self._pools.positions(task),
            logs={
                name: text for (name, attempt), text in memory.logs.items() if attempts.get(name) == attempt
            },
        )

    async def _write(self, task: TaskView, plan: Plan) -> bool:
        """Write the status, if nobody wrote to the task meanwhile. Otherwise nothing of the plan holds."""
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
        except (Conflict, Unavailable) as error:
            log.info("status of %s: %s; reading it again", task.key.name, error)
            await self._read_again(task)
            return False
        except NotFound:
            self._forget(task)
            return False
        self._store.tasks.put(answer)
        return True

    async def _read_again(self, task: TaskView) -> None:
        """Find out what stands now. Claims that it does not have are given back."""
        try:
            body = await self._cluster.get(AGENT_TASKS, task.key.namespace, task.key.name)
        except NotFound:
            self._forget(task)
            return
        if body["metadata"]["uid"] != task.key.uid:
            self._forget(task)
            return
        self._store.tasks.put(body)
        now = task_of(body)
        pods = now.pods if isinstance(now, FinishedTask) else _assigned_pods(now)
        self._pools.release(task.key.uid, keep=frozenset(pod.uid for pod in pods))

    def _forget(self, task: TaskView) -> None:
        self._store.tasks.remove({"metadata": {**_identity(task.key)}})
        self.gone(task)

    # --- acting ---

    async def _act(self, task: TaskView, memory: _Memory, action: Action) -> None:
        match action:
            case CreatePod():
                await self._create(task, memory, action)
            case Resize():
                await self._cluster.patch(
                    PODS,
                    action.pod.namespace,
                    action.pod.name,
                    resize_patch(action.pod, action.size, self._settings),
                    subresource="resize",
                )
            case Start():
                await self._start(task, memory, action)
            case Cancel():
                await self._runs.cancel(task.key.uid, action.execution)
            case DeletePod():
                self._delete_pod(action.pod)
            case DeleteTask():
                self._delete_task(task.key)
            case Tell():
                self._events.tell(task.key, action)

    async def _create(self, task: TaskView, memory: _Memory, action: CreatePod) -> None:
        attempt = action.execution, action.attempt
        references = task.spec.secret_refs if task.spec is not None else ()
        try:
            await self._namespaces.close_off(task.key.namespace)
            body = await self._cluster.create(
                PODS, task.key.namespace, self._maker.cold(task, action, references)
            )
        except AlreadyExists:
            body = await self._cluster.get(PODS, task.key.namespace, action.name)
        except Refused as error:
            refusal = api_refusal(error.status, error.reason, str(error), error.body)
            if isinstance(refusal, Later):
                raise Unavailable(refusal.message, refusal.retry_after_seconds) from error
            memory.refusals[attempt] = refusal
            self.kick(task.key.uid)
            return
        memory.made.add(attempt)
        self._store.pods.put(body)
        EXECUTIONS_STARTED.labels("cold").inc()

    async def _start(self, task: TaskView, memory: _Memory, action: Start) -> None:
        execution = next(
            (one for one in self._current(task) if one.name == action.execution and one.sandbox), None
        )
        if execution is None:
            return
        spec = task.spec
        secrets = await self._late_secrets(task, execution) if spec is not None else {}
        self._runs.start(
            task.key.uid,
            execution,
            action,
            files=spec.files if spec is not None else (),
            secret_env=tuple(ref.env for ref in spec.secret_refs) if spec is not None and not secrets else (),
            late_env=secrets,
            queued=memory.seen,
        )

    def _current(self, task: TaskView) -> Iterable[ExecutionStatus]:
        now = self._store.tasks.get(task.key.uid)
        return now.status.executions if isinstance(now, TaskView) else ()

    async def _late_secrets(self, task: TaskView, execution: ExecutionStatus) -> dict[str, str]:
        """Read the secrets for a waiting sandbox, which the kubelet could not give them to."""
        spec = task.spec
        assert spec is not None
        if not spec.secret_refs or execution.sandbox is None or not execution.sandbox.warm:
            return {}
        found: dict[str, str] = {}
        for name in {reference.name for reference in spec.secret_refs}:
            secret = await self._cluster.get(SECRETS, task.key.namespace, name)
            data = secret.get("data") or {}
            for reference in spec.secret_refs:
                if reference.name == name and reference.key in data:
                    found[reference.env] = base64.b64decode(data[reference.key]).decode("utf-8", "replace")
        return found

    def _delete_pod(self, pod: ObjectKey) -> None:
        self._pools.spoil(pod.uid)
        known = self._store.pods.get(pod.uid)
        if known is not None and not known.deleting:
            self._background.run(partial(self._cluster.delete, PODS, pod), f"delete pod {pod.name}")

    def _delete_task(self, task: ObjectKey) -> None:
        self._background.run(partial(self._cluster.delete, AGENT_TASKS, task), f"delete task {task.name}")

    def _after_the_end(self, task: FinishedTask) -> float | None:
        """What an ended task still needs: its pods gone, and itself when its time is over."""
        uid = task.key.uid
        self._memories.pop(uid, None)
        self._runs.drop_task(uid)
        self._pools.queues.forget(uid)
        for pod in {*task.pods, *self._pools.claimed_by(uid)}:
            self._delete_pod(pod)
        self._pools.release(uid, keep=frozenset())
        if task.delete_at is None:
            return None
        if self._clock.now() >= task.delete_at:
            self._delete_task(task.key)
            return None
        return self._clock.loop_time(task.delete_at)

    # --- logs of programs, metrics ---

    async def _fetch_logs(self, task: TaskView, memory: _Memory) -> None:
        """Read what programs printed whose containers have ended."""
        for execution in task.status.executions:
            sandbox, attempt = execution.sandbox, (execution.name, execution.attempt)
            if execution.reason is not None or sandbox is None or RUNNER not in sandbox.weakened:
                continue
            pod = self._store.pods.named(task.key.namespace, sandbox.pod_name or "")
            if pod is None or pod.container.terminated is None or attempt in memory.logs:
                continue
            try:
                data = await self._cluster.logs(
                    pod.key.namespace, pod.key.name, CONTAINER, self._settings.status_output_bytes + 1
                )
            except Refused as error:  # the node is gone, or the log was never written
                data = f"(the log could not be read: {error})".encode()
            memory.logs[attempt] = data.decode("utf-8", "replace")

    def _measure(self, plan: Plan) -> None:
        status = plan.status
        assert status is not None
        for execution, _pod in plan.claims:
            resized = any(
                e.name == execution and e.sandbox is not None and e.sandbox.resized for e in status.executions
            )
            EXECUTIONS_STARTED.labels("resized" if resized else "warm").inc()
        if status.reason is None:
            return
        TASKS_FINISHED.labels(status.reason.value).inc()
        for ended in status.executions:
            times = ended.timings
            for phase in ("claimed", "started", "finished"):
                text = getattr(times, phase, None)
                if text is not None and times is not None and times.queued is not None:
                    seconds = datetime.fromisoformat(text) - datetime.fromisoformat(times.queued)
                    TASK_PHASE_SECONDS.labels(phase).observe(max(0.0, seconds.total_seconds()))


def _assigned_pods(task: TaskView) -> tuple[ObjectKey, ...]:
    return tuple(
        ObjectKey(task.key.namespace, e.sandbox.pod_name, e.sandbox.pod_uid)
        for e in task.status.executions
        if e.sandbox is not None and e.sandbox.pod_name and e.sandbox.pod_uid
    )


def _executions(spec: AgentTaskSpec | None) -> tuple[str, ...]:
    if spec is None:
        return ()
    return tuple(step.name for step in spec.steps) or ("main",)


def _identity(key: ObjectKey) -> Json:
    return {"namespace": key.namespace, "name": key.name, "uid": key.uid}
