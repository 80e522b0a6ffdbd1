"""Keeps pools filled, and knows which of their sandboxes may be given to whom."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from corral.api import SandboxPool
from corral.cluster.port import PODS, POOLS, Cluster, Conflict, NotFound, ObjectKey, Refused, Unavailable
from corral.sandbox.port import Owner
from corral_operator.builders.template import template_hash
from corral_operator.clock import Clock
from corral_operator.control.claims import Claims
from corral_operator.control.deletions import Deletions
from corral_operator.control.links import Links
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.queues import Queues
from corral_operator.control.store import Store
from corral_operator.control.workers import Workers
from corral_operator.decisions.api_refusal import Later, api_refusal
from corral_operator.decisions.match import PoolSupply
from corral_operator.decisions.pool import PoolPlan, PoolState, decide_pool, is_usable
from corral_operator.decisions.task_view import FinishedTask, TaskView
from corral_operator.metrics import POOL_REFILLS, POOL_SANDBOXES
from corral_operator.names import POOL_LABEL
from corral_operator.settings import Settings
from corral_operator.views import PodView

if TYPE_CHECKING:
    from corral_operator.decisions.refill import PoolMemory

log = logging.getLogger(__name__)

#: A pool's numbers change with every task; people and autoscalers look at them less often.
_STATUS_EVERY = timedelta(seconds=1)
#: So long a runner has to say whom it serves before its sandbox is taken away.
_RETIRE_SECONDS = 3.0
#: A retired one stays so long: whoever has just given it to a task hears from it, instead of finding it gone.
_RETIRED_STAYS_SECONDS = 2.0


class Pools:
    """Every pool, and the claims on its sandboxes."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        links: Links,
        maker: PodMaker,
        namespaces: Namespaces,
        deletions: Deletions,
        clock: Clock,
        settings: Settings,
        kick_task: Callable[[str], None],
        may_act: Callable[[], bool],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._links = links
        self._maker = maker
        self._namespaces = namespaces
        self._deletions = deletions
        self._clock = clock
        self._settings = settings
        self.claims = Claims()
        self._memories: dict[str, PoolMemory] = {}
        self._written: dict[str, datetime] = {}
        self._templates: dict[tuple[str, int], str] = {}
        self.queues = Queues(kick_task)
        self._workers: Workers[str] = Workers(self._look, "pool", may_act)

    # --- what tasks ask ---

    def supply(self, task: TaskView) -> tuple[PoolSupply, ...]:
        """Return the namespace's pools, each with the sandboxes that this task may have now.

        Where others wait longer or matter more, those that are first in line keep as many sandboxes.
        """
        found, settings = [], self._settings
        for pool in self._of(task.key.namespace):
            ready = self._ready(pool)
            ahead = self.queues.ahead_of(task, pool.metadata.name or "")
            supply = PoolSupply.of(_key(pool), pool.spec, ready[: max(0, len(ready) - ahead)])
            found.append(
                replace(
                    supply,
                    # Named or left out, the default is the same.
                    image=None if supply.image == settings.sandbox_image else supply.image,
                    runtime_class=None
                    if supply.runtime_class == settings.runtime_class
                    else supply.runtime_class,
                )
            )
        return tuple(found)

    def positions(self, task: TaskView) -> dict[str, int]:
        """Return the positions of a task's executions in the queues, from 1."""
        return self.queues.positions(task.key.uid)

    def wait(self, uid: str, task: TaskView, waiting: Iterable[tuple[str, str]]) -> None:
        """Say which executions of a task wait, and for which pool; those that waited before no longer do."""
        joined = self.queues.replace(uid, task, list(waiting), self._clock.now())
        for pool in self._of(task.key.namespace) if joined else ():
            if pool.metadata.name in joined:
                self._workers.kick(pool.metadata.uid or "")  # now it does not wait for a lull

    def leave(self, task: TaskView) -> None:
        """Give up a task's places; what was kept for it goes to those behind."""
        self.queues.forget(task.key.uid)
        for pool in self._of(task.key.namespace):
            self._serve_queue(pool)

    def claim(self, pod: ObjectKey, task: TaskView) -> None:
        """Take a sandbox off the supply."""
        self.claims.take(pod, task)
        namespace = task.key.namespace
        self.queues.served(namespace, task.caller, self.claims.running(namespace), self._clock.now())
        self._kick_pool_of(pod.uid)

    def release(self, task: str, keep: Collection[str]) -> None:
        """Give up a task's claims, but for those to keep. An unused sandbox can then be claimed again."""
        for uid in self.claims.release(task, keep):
            self._kick_pool_of(uid)

    def give_up(self, pod: ObjectKey) -> None:
        """Take a sandbox away that waits for a task, in the background; one that serves somebody by then stays.

        Another operator that believes to lead, or did when it wrote, may be about to start something in it. So its
        runner is asked first, and starts nothing from then on.
        """
        if self._deletions.is_asked_for(pod.uid):
            return  # spent it is for that reason alone, perhaps, and its runner has not answered yet
        waits = pod.uid not in self.claims.spent
        self.claims.spoil(pod.uid)
        self._deletions.delete(PODS, pod, may_go=partial(self.may_go, pod, None) if waits else None)

    async def may_go(self, pod: ObjectKey, task: str | None) -> bool:
        """Whether a sandbox serves nobody, and never will, or this task alone. Then it may be taken away.

        Args:
            pod: the sandbox.
            task: UID of the task that is done with it; None: it waited for one.
        """
        link = self._links.find(pod)
        described = None if link is None else await link.retire(_RETIRE_SECONDS)
        if described is None:
            return True
        if described.owner is None:
            if task is None:
                await asyncio.sleep(_RETIRED_STAYS_SECONDS)
            return True
        if task == _task_of(described.owner):
            return True
        log.info("pod %s was to go, and serves %s", pod.name, described.owner.uid)
        self.claims.unspoil(pod.uid)
        return False

    # --- what happens to pods ---

    def pod_changed(self, pod: PodView) -> None:
        """Look at the pool of a pod, and at who waits for it."""
        name = pod.labels.get(POOL_LABEL)
        if name is None:
            return
        for pool in self._of(pod.key.namespace):
            if pool.metadata.uid == pod.owner_uid:
                self._workers.kick(pool.metadata.uid or "")
                self._serve_queue(pool)

    def pod_gone(self, pod: PodView) -> None:
        """Forget a pod."""
        self.claims.forget(pod.key.uid)
        self._deletions.forget(pod.key.uid)
        self.pod_changed(pod)

    def runner_changed(self, key: ObjectKey) -> None:
        """Take note that a runner answers, or does not any more."""
        pod = self._store.pods.get(key.uid)
        if pod is not None:
            self.pod_changed(pod)

    # --- looking ---

    def kick(self, uid: str) -> None:
        """Look at a pool as soon as possible."""
        self._workers.kick(uid)

    def gone(self, pool: SandboxPool) -> None:
        """Forget a pool that was deleted; its pods go by their owner."""
        uid = pool.metadata.uid or ""
        self._workers.forget(uid)
        self._memories.pop(uid, None)
        self._written.pop(uid, None)
        self._templates = {key: kept for key, kept in self._templates.items() if key[0] != uid}
        self.queues.pool_gone(pool.metadata.namespace or "", pool.metadata.name or "")

    def halt(self) -> None:
        """Let nobody go on, from this moment."""
        self._workers.halt()

    async def close(self) -> None:
        """Stop looking; forget every claim, they stand in the tasks' statuses."""
        await self._workers.close()
        self.queues.clear()
        self.claims.clear()
        # From now on another operator tells how many there are.
        POOL_SANDBOXES.clear()

    async def _look(self, uid: str) -> float | None:
        pool = self._store.pools.get(uid)
        if pool is None:
            return None
        state = self._state(pool)
        now = self._clock.now()
        seen = self._store.pods.owned_by(state.key.uid)
        self._spoil_used(seen)
        silent = self._silent(seen, now)
        # Ready is a sandbox whose runner answers, and has served nobody; its pod is ready some milliseconds before.
        pods = [replace(pod, ready=pod.ready and self._is_unused(pod)) for pod in seen]
        plan = decide_pool(
            state,
            pods,
            now,
            claimed=self.claims.taken,
            spent=self.claims.spent,
            silent=silent,
            awaited=self.queues.waits_for(state.key.namespace, state.key.name),
            creating=0,  # one look makes its pods before the next one begins
            memory=self._memories.get(uid),
            patience=timedelta(seconds=self._settings.pod_start_seconds),
        )
        self._memories[uid] = plan.memory
        for key in plan.delete:
            self.give_up(key)
        if plan.create:
            await self._create(pool, state, plan)
            self.kick(uid)
        wake = plan.wake_at
        if plan.status is not None:
            due = self._written.get(uid, now - _STATUS_EVERY) + _STATUS_EVERY
            if now >= due:
                self._written[uid] = now
                await self._write(pool, plan)
            else:
                wake = due if wake is None else min(wake, due)
        self._measure(pool, pods)
        return None if wake is None else self._clock.loop_time(wake)

    async def _create(self, pool: SandboxPool, state: PoolState, plan: PoolPlan) -> None:
        await self._namespaces.close_off(state.key.namespace)
        made = await asyncio.gather(
            *(self._create_one(pool, state) for _ in range(plan.create)), return_exceptions=True
        )
        for error in made:
            if isinstance(error, Refused):
                refusal = api_refusal(error.status, error.reason, str(error), error.body)
                words = (
                    (error.reason or "Refused", refusal.message)
                    if isinstance(refusal, Later)
                    else (refusal.reason.value, refusal.message)
                )
                uid = pool.metadata.uid or ""
                memory = self._memories.get(uid)
                if memory is not None:  # the pool was not deleted meanwhile
                    self._memories[uid] = memory.failed(*words, self._clock.now())
                break
            if isinstance(error, BaseException):
                raise error

    async def _create_one(self, pool: SandboxPool, state: PoolState) -> None:
        body = self._maker.waiting(state.key, pool.spec)
        try:
            made = await self._cluster.create(PODS, state.key.namespace, body)
        except Unavailable:
            # It may have been made all the same. Found here, it is counted; found by the watch, too.
            try:
                made = await self._cluster.get(PODS, state.key.namespace, body["metadata"]["name"])
            except NotFound:
                return
        self._store.pods.put(made)
        POOL_REFILLS.labels(state.key.namespace, state.key.name).inc()

    async def _write(self, pool: SandboxPool, plan: PoolPlan) -> None:
        assert plan.status is not None
        key = _key(pool)
        wire = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {"metadata": {"uid": key.uid}, "status": wire}
        try:
            answer = await self._cluster.patch(POOLS, key.namespace, key.name, body, subresource="status")
        except (Conflict, NotFound):
            return
        self._store.pools.put(answer)

    # --- inside ---

    def _of(self, namespace: str) -> list[SandboxPool]:
        return [pool for pool in self._store.pools if pool.metadata.namespace == namespace]

    def _state(self, pool: SandboxPool) -> PoolState:
        uid, generation = pool.metadata.uid or "", pool.metadata.generation or 0
        template = self._templates.get((uid, generation))
        if template is None:
            template = self._templates[uid, generation] = template_hash(pool.spec, self._settings)
        return PoolState(
            key=_key(pool),
            generation=generation,
            spec=pool.spec,
            deleting=pool.metadata.deletion_timestamp is not None,
            status=pool.status,
            template=template,
        )

    def _ready(self, pool: SandboxPool) -> list[PodView]:
        state = self._state(pool)
        found = [
            pod
            for pod in self._store.pods.owned_by(state.key.uid)
            if self._is_unused(pod)
            and self.claims.is_free(pod.key.uid)
            and is_usable(replace(pod, ready=True), state.template)
        ]
        return sorted(found, key=lambda pod: (pod.created, pod.key.name))

    def _is_unused(self, pod: PodView) -> bool:
        link = self._links.find(pod.key)
        return link is not None and link.unused

    def _spoil_used(self, pods: Iterable[PodView]) -> None:
        """Give nobody what has served: whoever was to take it away may have died before.

        Attempts that have not ended have claimed their sandboxes, but for those of a status that cannot be read, and
        those of another operator that a runner tells of before the watch does.
        """
        for pod in pods:
            link = self._links.find(pod.key)
            if (
                link is None
                or (described := link.description) is None
                or not self.claims.is_free(pod.key.uid)
            ):
                continue
            if described.retired:
                self.claims.spoil(pod.key.uid)
            if (owner := described.owner) is not None and self._is_over(owner, link.described_at):
                log.warning("pod %s has served %s, which has ended; it goes", pod.key.name, owner.uid)
                self.claims.spoil(pod.key.uid)

    def _is_over(self, owner: Owner, since: float) -> bool:
        """Whether an attempt has ended that a runner named at a loop time. What no watch has told of yet has not."""
        uid = _task_of(owner)
        task = self._store.tasks.get(uid)
        if task is None:
            return self._store.tasks.is_gone(uid) or since < self._store.tasks_listed_at
        return isinstance(task, FinishedTask) or task.is_over(owner)

    def _silent(self, pods: Iterable[PodView], now: datetime) -> dict[str, datetime]:
        """Return since when no runner answers, of those that should."""
        loop_now = asyncio.get_running_loop().time()
        links = ((pod.key.uid, self._links.find(pod.key)) for pod in pods)
        return {
            uid: now - timedelta(seconds=loop_now - link.silent_since)
            for uid, link in links
            if link is not None and link.silent_since is not None
        }

    def _serve_queue(self, pool: SandboxPool) -> None:
        namespace, name = pool.metadata.namespace or "", pool.metadata.name or ""
        if self.queues.waits_for(namespace, name):
            self.queues.kick_first(namespace, name, len(self._ready(pool)))

    def _kick_pool_of(self, pod: str) -> None:
        view = self._store.pods.get(pod)
        if view is not None:
            self.pod_changed(view)

    def _measure(self, pool: SandboxPool, pods: list[PodView]) -> None:
        labels = pool.metadata.namespace, pool.metadata.name
        claimed = sum(pod.key.uid in self.claims.taken for pod in pods)
        POOL_SANDBOXES.labels(*labels, "claimed").set(claimed)
        POOL_SANDBOXES.labels(*labels, "ready").set(len(self._ready(pool)))
        waiting = [pod for pod in pods if not pod.ended and self.claims.is_free(pod.key.uid)]
        POOL_SANDBOXES.labels(*labels, "waiting").set(len(waiting))


def _task_of(owner: Owner) -> str:
    return owner.uid.partition("/")[0]


def _key(pool: SandboxPool) -> ObjectKey:
    metadata = pool.metadata
    return ObjectKey(metadata.namespace or "", metadata.name or "", metadata.uid or "")
