"""The operator as a whole: its parts, its terms as the one that acts, and its regular look at everything."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime
from typing import Any

from corral.api import SandboxPool
from corral.artifacts.port import ArtifactStore
from corral.catalogue.checker import ArgumentChecker
from corral.cluster.port import (
    AGENT_TASKS,
    PODS,
    POOLS,
    TOOLS,
    Cluster,
    ClusterError,
    ObjectKey,
    Resource,
)
from corral.policy import Policy
from corral_operator.clock import Clock
from corral_operator.control.acting import Actor
from corral_operator.control.artifacts import Artifacts
from corral_operator.control.deletions import Deletions
from corral_operator.control.events import Events
from corral_operator.control.hearing import Hearing, tool_of
from corral_operator.control.links import Links
from corral_operator.control.measuring import forget_pools_but
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.pools import Pools
from corral_operator.control.probe import PolicyProbe
from corral_operator.control.runs import Runs
from corral_operator.control.store import Shelf, Store
from corral_operator.control.tasks import Tasks
from corral_operator.control.workers import Background
from corral_operator.decisions.task_view import FinishedTask, TaskView, task_of
from corral_operator.lease import Leadership
from corral_operator.metrics import QUEUE_OLDEST, RECONCILE_ERRORS, TASKS_ACTIVE
from corral_operator.names import CONTAINER, SANDBOX_LABEL
from corral_operator.settings import Settings
from corral_operator.views import Json, pod_view

log = logging.getLogger(__name__)

_MEASURE_SECONDS = 5.0


class Operator:
    """Everything that runs in an operator's process, apart from kopf."""

    def __init__(
        self,
        cluster: Cluster,
        lease_cluster: Cluster,
        settings: Settings,
        policy: Policy,
        key: bytes,
        *,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        """Make it; nothing happens before ``run``.

        Args:
            cluster: for everything but the Lease.
            lease_cluster: the same cluster, over connections that nobody else uses.
            settings: of this operator.
            policy: that tasks are held against.
            key: that the runners' tokens are derived from.
            artifacts: their store; None: there is none.
        """
        self._cluster = cluster
        self._settings = settings
        self._clock = Clock()
        self.store = Store(
            tasks=Shelf(task_of),
            pods=Shelf(lambda body: pod_view(body, CONTAINER), lambda pod: pod.owner_uid),
            pools=Shelf(SandboxPool.model_validate),
            tools=Shelf(tool_of),
        )
        self._background = Background()
        self._deletions = Deletions(cluster, self._background)
        maker = PodMaker(settings, key)
        namespaces = Namespaces(cluster, settings)
        self._links = Links(maker, self._runner_changed)
        self._artifacts = Artifacts(artifacts, self._clock, settings)
        self._runs = Runs(self._links, self._artifacts, self._clock, settings, self._kick_task)
        self.pools = Pools(
            store=self.store,
            cluster=cluster,
            links=self._links,
            maker=maker,
            namespaces=namespaces,
            deletions=self._deletions,
            clock=self._clock,
            settings=settings,
            kick_task=self._kick_task,
            may_act=lambda: self._acting,
        )
        self._checker = ArgumentChecker()
        self.tasks = Tasks(
            store=self.store,
            cluster=cluster,
            pools=self.pools,
            runs=self._runs,
            actor=Actor(
                store=self.store,
                cluster=cluster,
                pools=self.pools,
                runs=self._runs,
                artifacts=self._artifacts,
                maker=maker,
                namespaces=namespaces,
                events=Events(cluster, self._background, self._clock, settings),
                deletions=self._deletions,
                settings=settings,
                kick=self._kick_task,
            ),
            clock=self._clock,
            settings=settings,
            policy=policy,
            checker=self._checker,
            look_up=self._look_up_tool,
            may_act=lambda: self._acting,
        )
        self._hearing = Hearing(
            store=self.store,
            cluster=cluster,
            settings=settings,
            tasks=self.tasks,
            pools=self.pools,
            links=self._links,
            may_act=lambda: self._acting,
        )
        self._probe = PolicyProbe(cluster, settings, maker, namespaces, self._probed)
        self._leadership = Leadership(lease_cluster, settings, self._clock, self._leadership_changed)
        self._changed = asyncio.Event()
        #: Goes up with each gain and each loss of the Lease: what was seen in one term counts for nothing in the next.
        self._term = 0
        #: This operator has been active at some time.
        self._leads = asyncio.Event()
        #: Everything has been looked at once, so that what is not in the store does not exist.
        self._acting = False

    def heard(self, kind: str | None, resource: Resource, body: Json) -> None:
        """Take in one event of a watch; see ``Hearing.heard``."""
        self._hearing.heard(kind, resource, body)

    async def _look_up_tool(self, namespace: str, name: str) -> None:
        await self._hearing.look_up_tool(namespace, name)

    def _kick_task(self, uid: str) -> None:
        if self._acting:
            self.tasks.kick(uid)

    def _runner_changed(self, pod: ObjectKey) -> None:
        if self._acting:
            self.pools.runner_changed(pod)

    # --- life ---

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leadership.run(), name="lease")
            group.create_task(self._sweep_for_ever(), name="sweep")
            group.create_task(self._measure_for_ever(), name="measure")
            group.create_task(self._sweep_artifacts(), name="artifacts")
            if self._settings.verify_network_policy:
                group.create_task(self._probe_for_ever(), name="probe")

    async def close(self) -> None:
        """Let go of everything. What runs in the sandboxes goes on, and another operator finds it."""
        await self._stop_acting()
        await self._background.close()
        await self._checker.close()
        await self._artifacts.close()

    @property
    def ready(self) -> bool:
        """Whether it acts, or stands by and could."""
        return self._acting or not self._leadership.active

    def _leadership_changed(self, active: bool) -> None:  # noqa: FBT001 - a callback's one value
        self._term += 1
        if active:
            self._leads.set()
        else:
            # At once, and not when the sweep comes round: another one may act from now on.
            self._acting = False
            self.tasks.halt()
            self.pools.halt()
            self._deletions.halt()
        self._changed.set()

    async def _sweep_for_ever(self) -> None:
        while True:
            term = self._term
            if not self._acting:
                # Also where the Lease was lost and regained since: nobody goes on from one term into the next.
                await self._stop_acting()
            if self._leadership.active:
                try:
                    await self._sweep()
                    if self._acting:
                        self._look_again()
                    else:
                        self._begin_acting(term)
                except ClusterError as error:
                    RECONCILE_ERRORS.labels("Sweep").inc()
                    log.warning("not everything could be looked at: %s", error)
                pause = self._settings.sweep_seconds if self._acting else 0.5
            else:
                pause = self._settings.sweep_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._changed.clear()

    async def _sweep(self) -> None:
        """List everything. Watches may have dropped or delayed events, or stand still and say nothing."""
        await self._list(TOOLS, self.store.tools)
        await self._list(POOLS, self.store.pools)
        await self._list(PODS, self.store.pods, f"{SANDBOX_LABEL}=true")
        began = asyncio.get_running_loop().time()
        await self._list(AGENT_TASKS, self.store.tasks)
        self.store.tasks_listed_at = began

    async def _list(self, resource: Resource, shelf: Shelf[Any], selector: str = "") -> None:
        for namespace in self._settings.namespaces:
            uids: set[str] = set()
            version: int | None = None
            where = None if namespace == "*" else namespace
            async for items, listed_at in self._cluster.pages(resource, where, label_selector=selector):
                version = listed_at if version is None else version
                uids |= self._take_page(resource, items)
                await asyncio.sleep(0)  # a page of tasks takes milliseconds to read
            gone = shelf.missing(uids, version or 0, where)
            for uid, name in gone:
                self._hearing.is_gone(resource, ObjectKey(*name, uid))

    def _take_page(self, resource: Resource, page: list[dict[str, Any]]) -> set[str]:
        """Take in a page of a list, and let go of it object by object; the next one is read with none in memory.

        Returns:
            The UIDs that it had.
        """
        uids = set()
        while page:
            body = page.pop()
            uids.add(body["metadata"]["uid"])
            self.heard(None, resource, body)
        return uids

    def _begin_acting(self, term: int) -> None:
        """Act, now that everything was seen; unless another term has begun meanwhile, or the Lease was lost."""
        if term != self._term or not self._leadership.active:
            return
        self._acting = True
        store = self.store
        log.info("acting: %d tasks, %d pods, %d pools", len(store.tasks), len(store.pods), len(store.pools))
        for task in self.store.tasks:
            if isinstance(task, TaskView):
                self.pools.claims.adopt(task)
        for pod in self.store.pods:
            self._links.see(pod)
        for task in self.store.tasks:
            self.tasks.kick(task.key.uid)
        for pool in self.store.pools:
            self.pools.kick(pool.metadata.uid or "")

    def _look_again(self) -> None:
        """Look at what has something left to be done that no event may tell of, such as a deletion that was refused."""
        now = self._clock.now()
        for task in self.store.tasks:
            if isinstance(task, FinishedTask) and self._has_left_something(task, now):
                self.tasks.kick(task.key.uid)
        for pool in self.store.pools:
            self.pools.kick(pool.metadata.uid or "")

    def _has_left_something(self, task: FinishedTask, now: datetime) -> bool:
        if task.delete_at is not None and task.delete_at <= now:
            return True
        pods = self.store.pods
        return bool(pods.owned_by(task.key.uid)) or any(pods.get(pod.uid) is not None for pod in task.pods)

    async def _stop_acting(self) -> None:
        """Let go, so that nothing is done on what was known before another operator acted."""
        self._acting = False
        self._deletions.halt()
        await self.tasks.close()
        await self.pools.close()
        await self._runs.close()
        await self._links.close()

    async def _sweep_artifacts(self) -> None:
        await self._artifacts.sweep_for_ever(
            lambda: self._acting, lambda uid: self.store.tasks.get(uid) is not None
        )

    async def _probe_for_ever(self) -> None:
        await self._leads.wait()  # one of all replicas is enough
        await self._probe.run()

    def _probed(self, enforced: bool | None) -> None:  # noqa: FBT001 - a callback's one value
        self.tasks.policies_enforced = enforced
        for task in self.store.tasks:
            if isinstance(task, TaskView):
                self._kick_task(task.key.uid)

    async def _measure_for_ever(self) -> None:
        while True:
            phases = {"Pending": 0, "Running": 0}
            for task in self.store.tasks:
                if isinstance(task, TaskView):
                    phases["Running" if task.status.start_time else "Pending"] += 1
            for phase, count in phases.items():
                TASKS_ACTIVE.labels(phase).set(count)
            oldest = self.pools.queues.oldest()
            QUEUE_OLDEST.set(0 if oldest is None else (self._clock.now() - oldest).total_seconds())
            forget_pools_but(
                {(pool.metadata.namespace or "", pool.metadata.name or "") for pool in self.store.pools}
            )
            await asyncio.sleep(_MEASURE_SECONDS)
