"""Tasks in a cluster: kept by the API server, run by the operator, known from one watch."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from http import HTTPStatus

from corral.api import AgentTask, ManifestError, Problem
from corral.catalogue import Catalogue
from corral.cluster.mirror import Mirror
from corral.cluster.names import CALLER_LABEL
from corral.cluster.port import (
    AGENT_TASKS,
    AlreadyExists,
    ClusterError,
    Conflict,
    Json,
    NotFound,
    Unavailable,
    WatchedCluster,
)
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.cluster import refusals
from corral_gateway.tasks.cluster.following import Following
from corral_gateway.tasks.cluster.memory import Known, TaskMemory
from corral_gateway.tasks.cluster.namespaces import Namespaces
from corral_gateway.tasks.cluster.reading import body_of, seconds_of, slim, task_of
from corral_gateway.tasks.cluster.runners import Runners
from corral_gateway.tasks.cluster.waiting import Waiting
from corral_gateway.tasks.events import Event
from corral_gateway.tasks.intake import request_sha256
from corral_gateway.tasks.observing import Observers
from corral_gateway.tasks.port import KeyUsedError, TaskFilter, TaskObserver
from corral_gateway.tasks.stamps import (
    KEYED,
    REQUEST_ANNOTATION,
    SUBMISSION_ANNOTATION,
    caller_label,
    caller_of,
    keyed_name,
)

log = logging.getLogger(__name__)

#: A gateway that starts waits so long for the cluster, then serves, and says that it does not answer.
_START_SECONDS = 10.0
#: Another gateway may have made a task that our watch has yet to tell of.
_HEARSAY_SECONDS = 0.5
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class ClusterTasks:
    """Implements ``Executor``."""

    def __init__(
        self,
        cluster: WatchedCluster,
        watching: WatchedCluster,
        namespaces: Namespaces,
        *,
        catalogue_of: Callable[[str], Catalogue],
        runners: Runners,
        observers: Sequence[TaskObserver],
        waiting_tasks: int,
        waiting_tasks_each: int,
    ) -> None:
        """Prepare; ``start`` connects.

        Args:
            cluster: for requests.
            watching: the same over connections of its own, for watches; closed here.
            namespaces: whose tasks go where.
            catalogue_of: returns the tools that a caller's tasks may name.
            runners: tell what happens in sandboxes.
            observers: of every task that ends in a namespace that is watched.
            waiting_tasks: that may wait there; one more is refused.
            waiting_tasks_each: of them, those of one caller.
        """
        self._cluster = cluster
        self._watching = watching
        self._namespaces = namespaces
        self._catalogue_of = catalogue_of
        self._runners = runners
        self._observers = Observers(observers)
        self._waiting = Waiting(waiting_tasks, waiting_tasks_each)
        self._memory = TaskMemory(self._ended, self._waiting)
        self._complete = asyncio.Event()
        self._mirrors = {
            namespace: Mirror(watching, AGENT_TASKS, namespace, self._memory, on_change=self._changed)
            for namespace in namespaces.watched
        }
        self._work: list[asyncio.Task[None]] = []

    @property
    def active(self) -> int:
        """How many tasks have not ended, anybody's, in the namespaces that are watched."""
        return self._memory.active

    @property
    def waiting(self) -> int:
        """How many of them have no sandbox yet."""
        return self._waiting.count

    @property
    def is_current(self) -> bool:
        """Whether the cluster tells what happens in it."""
        return all(mirror.is_current for mirror in self._mirrors.values())

    @property
    def is_complete(self) -> bool:
        """Whether the cluster tells what happens in it, and has told of all tasks that there are."""
        return self.is_current and all(mirror.is_complete for mirror in self._mirrors.values())

    def knows(self, uid: str) -> bool:
        """Whether there is a task with an id, as far as the cluster has told."""
        return self._memory.get(uid) is not None

    async def start(self) -> None:
        """Begin to watch. Without a cluster that answers the gateway serves all the same, and says so."""
        loop = asyncio.get_running_loop()
        self._work = [
            loop.create_task(mirror.run(), name="watch of tasks") for mirror in self._mirrors.values()
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._complete.wait()

    def hand_over(self) -> None:
        """Leave everything to the operator, which has it already; see ``Executor``."""

    async def idle(self) -> None:
        """Return at once: nothing runs here; see ``Executor``."""

    async def cut_off(self) -> None:
        """Cancel nothing: what runs in the cluster goes on; see ``Executor``."""

    async def close(self) -> None:
        """Stop watching; what runs in the cluster goes on."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._watching.close()

    async def made_before(self, task: AgentTask, caller: str) -> AgentTask | None:
        """Return the task that a key has made already; see ``Executor``."""
        key = task.spec.idempotency_key
        if key is None:
            return None
        namespace, name = self._namespaces.of(caller), keyed_name(caller, key)
        known = self._memory.named(namespace, name)
        body = None if known is None else await self._body(known)
        if body is None:
            try:
                body = await self._cluster.get(AGENT_TASKS, namespace, name)
            except NotFound:
                return None
            except ClusterError as error:
                raise self._refusal(error, namespace) from error
            self._memory.put(body)
        return _same_request(task, body, caller)

    async def submit(self, task: AgentTask, caller: str) -> AgentTask:
        """Take a task in; see ``Executor``."""
        namespace = self._namespaces.of(caller)
        if task.metadata.namespace not in {None, namespace}:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "Forbidden",
                f"metadata.namespace: your tasks run in {namespace}",
                remedy="leave it out",
            )
        _refuse_reserved(task)
        with self._waiting.joining(caller_label(caller)):
            made = await self._made(task, namespace, caller)
            self._memory.put(made)
        if made["metadata"].get("annotations", {}).get(SUBMISSION_ANNOTATION) == task.metadata.uid:
            return task_of(slim(made))
        if task.spec.idempotency_key is None:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "NameTaken",
                f"metadata.name: there is a task {made['metadata']['name']} already",
                remedy="choose another name, or leave it out",
            )
        return _same_request(task, made, caller)

    async def _made(self, task: AgentTask, namespace: str, caller: str) -> Json:
        """Create a task and return it, or what has its name already."""
        wanted = body_of(task, namespace, caller, self._catalogue_of(caller))
        name = wanted["metadata"]["name"]
        try:
            return await self._cluster.create(AGENT_TASKS, namespace, wanted)
        except AlreadyExists:
            return await self._there(namespace, name)
        except Unavailable as error:
            # It may have been made all the same: whoever asks again without a key would run it twice.
            return await self._there(namespace, name, error)
        except ClusterError as error:
            raise self._refusal(error, namespace) from error

    async def wait(self, uid: str, caller: str, seconds: float) -> AgentTask | None:
        """Wait for a task's end; see ``Executor``."""
        if await self._known(uid, caller) is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    change, known = self._memory.change(uid), self._memory.get(uid)
                    if known is None or known.ended:
                        break
                    await change.wait()
        return await self._read(uid)

    async def get(self, uid: str, caller: str) -> AgentTask | None:
        """Return a task; see ``Executor``."""
        known = await self._known(uid, caller)
        body = None if known is None else await self._body(known)
        return None if body is None else task_of(body)

    async def submitted(self, uid: str, caller: str) -> AgentTask | None:
        """Return the task that was let in under an id; see ``Executor``."""
        self._check_complete(caller)
        known = self._memory.submitted(caller_label(caller), uid)
        body = None if known is None else await self._body(known)
        return None if body is None else task_of(body)

    async def find(self, caller: str, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks; see ``Executor``."""
        self._check_complete(caller)
        found: list[AgentTask] = []
        for known in self._memory.find(caller_label(caller), wanted):
            body = await self._body(known)
            if body is not None:
                found.append(task_of(body))
            if len(found) == wanted.limit:
                break
        return found

    async def cancel(self, uid: str, caller: str) -> AgentTask | None:
        """Ask for a task's end; see ``Executor``."""
        known = await self._known(uid, caller)
        if known is None:
            return None
        if not known.ended:
            patch = {"metadata": {"uid": uid}, "spec": {"cancel": True}}
            try:
                body = await self._cluster.patch(AGENT_TASKS, known.namespace, known.name, patch)
            except (NotFound, Conflict):
                return None
            except ClusterError as error:
                raise self._refusal(error, known.namespace) from error
            self._memory.put(body)
            return task_of(slim(body))
        return await self.get(uid, caller)

    async def events(self, uid: str, caller: str, after: int) -> AsyncGenerator[Event] | None:
        """Return a task's events; see ``Executor``. Their numbers grow, with gaps: see ``places``."""
        if await self._known(uid, caller) is None:
            return None
        following = Following(uid, after, memory=self._memory, runners=self._runners, read=self._read)
        return following.events()

    async def _known(self, uid: str, caller: str) -> Known | None:
        """Return what is known of a caller's own task."""
        known = self._memory.get(uid)
        if known is None and _UID.fullmatch(uid) and self._memory.last_words(uid) is None:
            self._check_complete(caller)
            change = self._memory.change(uid)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARSAY_SECONDS):
                    await change.wait()
            known = self._memory.get(uid)
            if known is None:
                self._memory.forget_change(uid, change)
        return known if known is not None and known.caller_label == caller_label(caller) else None

    async def _read(self, uid: str) -> AgentTask | None:
        """Return a task as it stands, or as it ended when it was deleted before its end."""
        known = self._memory.get(uid)
        body = self._memory.last_words(uid) if known is None else await self._body(known)
        return None if body is None else task_of(body)

    async def _body(self, known: Known) -> Json | None:
        """Return the whole of a task, read again where it is not kept."""
        body = self._memory.bodies.get(known.uid)
        if body is not None:
            return body
        try:
            found = await self._cluster.get(AGENT_TASKS, known.namespace, known.name)
        except NotFound:
            return None
        except ClusterError as error:
            raise self._refusal(error, known.namespace) from error
        if found["metadata"]["uid"] != known.uid:
            return None
        found = slim(found)
        self._memory.put(found)
        self._memory.bodies.put(found)
        return found

    async def _there(self, namespace: str, name: str, unsure: Unavailable | None = None) -> Json:
        """Return the task of a name that is there, or that may be."""
        try:
            return await self._cluster.get(AGENT_TASKS, namespace, name)
        except NotFound:
            raise refusals.away(unsure) from unsure  # not made after all; or it was there and is not any more
        except ClusterError as error:
            raise self._refusal(unsure or error, namespace) from error

    def _refusal(self, error: ClusterError, namespace: str) -> ProblemError:
        problem = refusals.problem_of(error, namespace)
        log.warning("%s: %s: %s", namespace, problem.reason, error)
        return problem

    def _check_complete(self, caller: str) -> None:
        """Refuse to say what there is while that is not known. One namespace that cannot be read stops no other."""
        mirror = self._mirrors.get(None) or self._mirrors[self._namespaces.of(caller)]
        if not mirror.is_complete:
            raise refusals.away()

    def _changed(self) -> None:
        if all(mirror.is_complete for mirror in self._mirrors.values()):
            self._complete.set()

    def _ended(self, body: Json, was_so_before: bool) -> None:  # noqa: FBT001 - called by one place
        task = task_of(body)
        caller = caller_of(task.metadata.labels, task.metadata.annotations)
        if was_so_before:
            self._observers.ended_before(task, caller)
        else:
            self._observers.ended(task, caller, seconds_of(task))


def _refuse_reserved(task: AgentTask) -> None:
    """Keep callers who share a namespace from taking the names of each other's keys."""
    name = task.metadata.name or ""
    if name.startswith(KEYED) and task.spec.idempotency_key is None:
        message = f"names that begin with {KEYED} are those of tasks with an idempotency key"
        raise ManifestError(
            [Problem("metadata.name", message, remedy="choose another name, or leave it out")]
        )


def _same_request(task: AgentTask, body: Json, caller: str) -> AgentTask:
    """Return what the same key made before; raises ``KeyUsedError`` where it was asked for something else.

    What somebody else put under that name, past the gateway, is never shown as the caller's own.
    """
    metadata = body["metadata"]
    made = (metadata.get("annotations") or {}).get(REQUEST_ANNOTATION)
    theirs = (metadata.get("labels") or {}).get(CALLER_LABEL) == caller_label(caller)
    if not theirs or made != request_sha256(task).hex():
        raise KeyUsedError
    return task_of(slim(body))
