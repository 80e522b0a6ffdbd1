"""What watches and lists tell of the cluster: it goes into the store, and whoever it is about is looked at."""

import logging
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from corral.api import Tool
from corral.cluster.port import (
    AGENT_TASKS,
    PODS,
    POOLS,
    TOOLS,
    Cluster,
    NotFound,
    ObjectKey,
    Refused,
    Resource,
)
from corral_operator.control.links import Links
from corral_operator.control.pools import Pools
from corral_operator.control.store import Store
from corral_operator.control.tasks import Tasks
from corral_operator.decisions.task_view import TaskView
from corral_operator.metrics import RECONCILE_ERRORS
from corral_operator.settings import Settings
from corral_operator.views import Json, PodView

log = logging.getLogger(__name__)


class Hearing:
    """The one door for news, whoever brings them."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        settings: Settings,
        tasks: Tasks,
        pools: Pools,
        links: Links,
        may_act: Callable[[], bool],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._settings = settings
        self._tasks = tasks
        self._pools = pools
        self._links = links
        self._may_act = may_act
        # Whoever learned of a pod, a watch, a list, or the answer to a create: its runner is connected to.
        store.pods.on_new = self._connect

    def heard(self, kind: str | None, resource: Resource, body: Json) -> None:
        """Take in one event of a watch; kind None: the object was listed."""
        if not self._serves(body["metadata"].get("namespace", "")):
            return
        try:
            if kind == "DELETED":
                self._deleted(resource, body)
            else:
                self._seen(resource, body)
        except (ValidationError, KeyError, TypeError, ValueError, RecursionError) as error:
            RECONCILE_ERRORS.labels("Unreadable").inc()
            metadata = body["metadata"]
            log.warning("%s %s cannot be read: %s", resource.plural, metadata.get("name"), error)

    def is_gone(self, resource: Resource, key: ObjectKey) -> None:
        """Take in that an object is not there any more."""
        identity = {"namespace": key.namespace, "name": key.name, "uid": key.uid}
        self._deleted(resource, {"metadata": identity})

    def _seen(self, resource: Resource, body: Json) -> None:
        uid = body["metadata"]["uid"]
        if resource is AGENT_TASKS:
            task = self._store.tasks.put(body)
            if task is not None and self._may_act():
                if isinstance(task, TaskView):
                    self._pools.claims.adopt(task)
                self._tasks.kick(uid)
        elif resource is PODS:
            pod = self._store.pods.put(body)
            if pod is not None and self._may_act():
                self._pod_changed(pod)
        elif resource is POOLS:
            if self._store.pools.put(body) is not None and self._may_act():
                self._pools.kick(uid)
        elif self._store.tools.is_news(body):
            self._store.tools.put(body)  # also one that cannot be read: what was before it counts no more
            self._tools_changed(body["metadata"]["namespace"])

    def _deleted(self, resource: Resource, body: Json) -> None:
        if resource is AGENT_TASKS:
            task = self._store.tasks.remove(body)
            if task is not None and self._may_act():
                self._tasks.gone(task)
        elif resource is PODS:
            with suppress(KeyError):
                self._store.pods.put(body)  # its last words: why it went
            pod = self._store.pods.remove(body)
            if pod is not None:
                self._pod_gone(pod)
        elif resource is POOLS:
            pool = self._store.pools.remove(body)
            if pool is not None:
                self._pools.gone(pool)
        else:
            self._store.tools.remove(body)
            self._tools_changed(body["metadata"]["namespace"])

    def _connect(self, pod: PodView) -> None:
        if self._may_act():
            self._links.see(pod)

    def _pod_changed(self, pod: PodView) -> None:
        self._pools.pod_changed(pod)
        self._kick_owner(pod)

    def _pod_gone(self, pod: PodView) -> None:
        self._store.pod_is_gone(pod)
        self._links.gone(pod.key)
        if self._may_act():
            self._kick_owner(pod)  # before the claim on it is forgotten
            self._pools.pod_gone(pod)

    def _kick_owner(self, pod: PodView) -> None:
        """Look at the task that a pod is for: its owner, or who has claimed it."""
        claimers = self._pools.claims.claimers(pod.key.uid)
        for claimer in claimers:
            self._tasks.kick(claimer)
        if not claimers and pod.owner_uid is not None and self._store.tasks.get(pod.owner_uid) is not None:
            self._tasks.kick(pod.owner_uid)

    def _tools_changed(self, namespace: str) -> None:
        self._store.tools_changed(namespace)
        # Only those that wait can be helped, or harmed, by another tool.
        for task in self._store.tasks:
            if self._may_act() and isinstance(task, TaskView) and task.key.namespace == namespace:
                self._tasks.kick(task.key.uid)

    async def look_up_tool(self, namespace: str, name: str) -> None:
        """Take in a tool that no watch may have told of yet, or that it is gone."""
        before = self._store.tools.named(namespace, name)
        try:
            self.heard(None, TOOLS, await self._cluster.get(TOOLS, namespace, name))
        except NotFound:
            if before is not None:
                self.is_gone(TOOLS, ObjectKey(namespace, name, before.metadata.uid or ""))
        except Refused as error:
            # What is known is all there is for whoever may not ask; not to go on would end no task.
            log.warning("the tool %s/%s cannot be asked for: %.300s", namespace, name, error)

    def _serves(self, namespace: str) -> bool:
        served = self._settings.namespaces
        return "*" in served or namespace in served


def tool_of(body: Json) -> Tool | None:
    """Parse a tool. One that is wrong is as good as none: the API server refuses those, or should have."""
    try:
        return Tool.model_validate(body)
    except ValidationError as error:
        log.warning("tool %s is ignored: %s", body["metadata"].get("name"), error)
        return None
