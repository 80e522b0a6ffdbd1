"""Carries out the actions of a plan, once its status stands."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from corral.api import ExecutionStatus, Reason
from corral.cluster.port import (
    AGENT_TASKS,
    PODS,
    SECRETS,
    AlreadyExists,
    Cluster,
    NotFound,
    ObjectKey,
    Refused,
    Unavailable,
)
from corral_operator.builders.resize import resize_patch
from corral_operator.builders.resources import sandbox_size
from corral_operator.control.artifacts import Artifacts
from corral_operator.control.deletions import Deletions
from corral_operator.control.events import Events
from corral_operator.control.memory import TaskMemory
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.pools import Pools
from corral_operator.control.runs import Runs
from corral_operator.control.store import Store
from corral_operator.decisions.actions import (
    Action,
    Ask,
    Cancel,
    CreatePod,
    DeletePod,
    Keep,
    ReadLog,
    Resize,
    Start,
    Tell,
)
from corral_operator.decisions.api_refusal import Later, api_refusal
from corral_operator.decisions.observed import Printed
from corral_operator.decisions.pool import LULL
from corral_operator.decisions.task_view import FinishedTask, TaskView
from corral_operator.metrics import EXECUTIONS_STARTED, POOL_CLAIMS
from corral_operator.names import CONTAINER
from corral_operator.settings import Settings

log = logging.getLogger(__name__)

#: A kubelet takes a resize in within a second or two, or not at all.
_RESIZE_SECONDS = 15.0
#: A log is some kilobytes. What hangs is read again; a program that has had its time is not given more for it.
_LOG_SECONDS = 10.0
_LATE_LOG_SECONDS = 3.0
#: A log that is a result is read so often before the result counts as lost.
_LOG_ATTEMPTS = 5


class SecretUnusableError(Exception):
    """A secret that a task refers to is not there, or cannot be an environment variable."""


class Actor:
    """Does what a plan says. Each action may be asked for again, by this operator or another."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        pools: Pools,
        runs: Runs,
        artifacts: Artifacts,
        maker: PodMaker,
        namespaces: Namespaces,
        events: Events,
        deletions: Deletions,
        settings: Settings,
        kick: Callable[[str], None],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._pools = pools
        self._runs = runs
        self._artifacts = artifacts
        self._maker = maker
        self._namespaces = namespaces
        self._events = events
        self._deletions = deletions
        self._settings = settings
        self._kick = kick

    async def act(self, task: TaskView, memory: TaskMemory, action: Action) -> None:
        """Carry out one action.

        Raises:
            ClusterError: it could not be done; the next look asks for it again.
        """
        match action:
            case CreatePod():
                await self._create(task, memory, action)
            case Resize():
                await self._resize(task, memory, action)
            case Start():
                await self._start(task, memory, action)
            case Cancel():
                await self._runs.cancel(task.key.uid, action.execution)
            case Ask():
                self._runs.ask(task.key.uid, action.execution)
            case ReadLog():
                await self._read_log(task, memory, action)
            case Keep():
                memory.kept[action.execution, action.attempt] = await self._artifacts.keep(
                    task, action.contents
                )
                self._kick(task.key.uid)
            case DeletePod():
                self.delete_pod(action.pod, task.key.uid, idle=action.idle)
            case Tell():
                self._events.tell(task.key, action)

    def delete_pod(self, pod: ObjectKey, task: str, *, idle: bool = False) -> None:
        """Take a pod away that a task is done with, in the background; nobody gets it any more.

        One that is idle goes after a lull, one that turns out to serve another task does not go.
        """
        known = self._store.pods.get(pod.uid)
        if known is None:
            return
        self._pools.claims.spoil(pod.uid)
        if not known.deleting:
            after = LULL.total_seconds() if idle else 0
            self._deletions.delete(
                PODS, pod, after_seconds=after, may_go=partial(self._pools.may_go, pod, task)
            )

    def delete_task(self, task: ObjectKey) -> None:
        """Take an ended task away, in the background."""
        self._deletions.delete(AGENT_TASKS, task)

    def task_is_gone(self, task: TaskView | FinishedTask) -> None:
        """Take note that a task does not exist any more, and take what is kept of it away."""
        self._deletions.forget(task.key.uid)
        if task.has_artifacts:
            self._artifacts.forget(task.key.uid)

    async def _create(self, task: TaskView, memory: TaskMemory, action: CreatePod) -> None:
        attempt = action.execution, action.attempt
        namespace = task.key.namespace
        references = task.spec.secret_refs if task.spec is not None else ()
        try:
            await self._namespaces.close_off(namespace)
            body = await self._cluster.create(PODS, namespace, self._maker.cold(task, action, references))
        except AlreadyExists:
            body = await self._cluster.get(PODS, namespace, action.name)
        except Refused as error:
            refusal = api_refusal(error.status, error.reason, str(error), error.body)
            if isinstance(refusal, Later):
                raise Unavailable(refusal.message, refusal.retry_after_seconds) from error
            memory.refusals[attempt] = refusal
            self._kick(task.key.uid)
            return
        memory.made.add(attempt)
        memory.absent.discard(action.name)
        self._store.pods.put(body)
        EXECUTIONS_STARTED.labels("cold").inc()
        if action.missed_pool is not None:
            POOL_CLAIMS.labels(namespace, action.missed_pool, "miss").inc()

    async def _read_log(self, task: TaskView, memory: TaskMemory, action: ReadLog) -> None:
        """Read what a program printed, or remember that it cannot be read.

        Raises:
            Unavailable: it is a result, and may be read a moment later.
        """
        attempt = action.execution, action.attempt
        try:
            async with asyncio.timeout(_LOG_SECONDS if action.final else _LATE_LOG_SECONDS):
                printed = await self._printed(action.pod)
        except Refused as error:  # the node is gone, or the log was never written
            printed = Printed(problem=str(error))
        except (Unavailable, TimeoutError) as error:
            problem = str(error) or "its node did not answer in time"
            memory.unread[attempt] = memory.unread.get(attempt, 0) + 1
            if action.final and memory.unread[attempt] < _LOG_ATTEMPTS:
                pause = error.retry_after_seconds if isinstance(error, Unavailable) else None
                raise Unavailable(f"log of {action.pod.name}: {problem}", pause) from error
            printed = Printed(problem=problem)
        memory.logs[attempt] = replace(printed, final=action.final)
        self._kick(task.key.uid)

    async def _printed(self, pod: ObjectKey) -> Printed:
        """Read both streams of a container apart, or, where the API server cannot, together."""
        limit = self._settings.status_output_bytes + 1

        async def read(stream: str) -> str:
            data = await self._cluster.logs(pod.namespace, pod.name, CONTAINER, limit, stream)
            return data.decode("utf-8", "replace")

        try:
            return Printed(await read("Stdout"), await read("Stderr"))
        except Refused:
            return Printed(await read("All"))

    async def _resize(self, task: TaskView, memory: TaskMemory, action: Resize) -> None:
        patch = resize_patch(action.pod, action.size, self._settings)
        try:
            await self._cluster.patch(
                PODS, action.pod.namespace, action.pod.name, patch, subresource="resize"
            )
            async with asyncio.timeout(_RESIZE_SECONDS):
                while not self._has(action):
                    await self._store.pod_news()
        except (Refused, TimeoutError) as error:
            message = f"its sandbox could not be given more in place: {str(error) or 'its node has no room'}"
            self._fail(task, memory, action, Reason.SANDBOX_FAILED, message)

    def _has(self, resize: Resize) -> bool:
        pod = self._store.pods.get(resize.pod.uid)
        size = None if pod is None else sandbox_size(pod)
        return pod is None or (size is not None and size.holds(resize.size))

    async def _start(self, task: TaskView, memory: TaskMemory, action: Start) -> None:
        execution, spec = self._execution(task, action.execution), task.spec
        if execution is None or spec is None or self._runs.follows(task.key.uid, execution, action.pod):
            return
        late = bool(spec.secret_refs) and execution.sandbox is not None and bool(execution.sandbox.warm)
        try:
            secrets = await self._read_secrets(task) if late else {}
        except SecretUnusableError as error:
            self._fail(task, memory, action, Reason.INVALID_SPEC, str(error))
            return
        self._runs.start(
            task,
            execution,
            action,
            secret_env=() if late else tuple(reference.env for reference in spec.secret_refs),
            late_env=secrets,
            queued=memory.seen,
        )

    def _fail(
        self, task: TaskView, memory: TaskMemory, action: Resize | Start, reason: Reason, message: str
    ) -> None:
        """End an attempt whose start could not be prepared; nothing of it ran."""
        execution = self._execution(task, action.execution)
        if execution is not None:
            self._runs.fail(task.key.uid, execution, action.pod, (reason, message), memory.seen)

    def _execution(self, task: TaskView, name: str) -> ExecutionStatus | None:
        """Return an execution as it stands in the status that was just written."""
        now = self._store.tasks.get(task.key.uid)
        executions = now.status.executions if isinstance(now, TaskView) else ()
        return next((one for one in executions if one.name == name and one.sandbox is not None), None)

    async def _read_secrets(self, task: TaskView) -> dict[str, str]:
        """Read the secrets for a waiting sandbox, which the kubelet could not give them to."""
        assert task.spec is not None
        found: dict[str, str] = {}
        for name in {reference.name for reference in task.spec.secret_refs}:
            try:
                secret = await self._cluster.get(SECRETS, task.key.namespace, name)
            except NotFound:
                raise SecretUnusableError(
                    f"there is no Secret {name}; create it, or correct spec.secretRefs"
                ) from None
            data = secret.get("data") or {}
            for reference in task.spec.secret_refs:
                if reference.name != name:
                    continue
                if reference.key not in data:
                    # Who may name a Secret in a task may not read it, so is not told what else it holds.
                    raise SecretUnusableError(
                        f"Secret {name} has no key {reference.key}; add it, or correct spec.secretRefs"
                    )
                try:
                    found[reference.env] = base64.b64decode(data[reference.key]).decode()
                except (binascii.Error, UnicodeDecodeError):
                    raise SecretUnusableError(
                        f"key {reference.key} of Secret {name} is not text, so it cannot be a variable"
                    ) from None
        return found
