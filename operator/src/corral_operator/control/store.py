"""What is known of the cluster: fed by kopf's watches, our own writes, and a periodic look at everything."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from corral.api import SandboxPool, Tool
from corral.catalogue import Catalogue
from corral.catalogue.tool_versions import version_of_tool
from corral.cluster.mirror import version_of
from corral_operator.decisions.task_view import FinishedTask, TaskView
from corral_operator.views import Json, PodView

#: UIDs of deleted objects, remembered so that a late event does not bring them back.
_TOMBSTONES = 20_000
#: Pods that are gone, remembered until their tasks have been told why.
_GONE_PODS = 2_000

_V = TypeVar("_V")


@dataclass(slots=True)
class _Entry(Generic[_V]):
    version: int
    value: _V
    name: tuple[str, str]


class Shelf(Generic[_V]):
    """Objects of one kind by UID, each in the newest version seen, whoever saw it."""

    def __init__(self, parse: Callable[[Json], _V], owner: Callable[[_V], str | None] | None = None) -> None:
        """Make it empty.

        Args:
            parse: from raw JSON to what is kept.
            owner: of an object, its owner's UID, to find it by.
        """
        self._owner = owner
        self._owned: dict[str, dict[str, _V]] = {}
        self._parse = parse
        self._entries: dict[str, _Entry[_V]] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._listeners: list[asyncio.Future[None]] = []
        #: Called with every object that is new or another.
        self.on_new: Callable[[_V], None] | None = None

    async def news(self) -> None:
        """Wait until an object is new or another."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.append(future)
        await future

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_V]:
        return iter([entry.value for entry in self._entries.values()])

    def get(self, uid: str) -> _V | None:
        """Return the object of a UID."""
        entry = self._entries.get(uid)
        return None if entry is None else entry.value

    def owned_by(self, uid: str) -> list[_V]:
        """Return the objects that belong to an object."""
        return list(self._owned.get(uid, {}).values())

    def named(self, namespace: str, name: str) -> _V | None:
        """Return the object that has the name now."""
        uid = self._names.get((namespace, name))
        return None if uid is None else self.get(uid)

    def is_gone(self, uid: str) -> bool:
        """Whether an object is known to have been deleted, lately."""
        return uid in self._gone

    def is_news(self, body: Json) -> bool:
        """Whether an object is new, or newer than the version known."""
        uid = body["metadata"]["uid"]
        known = self._entries.get(uid)
        return uid not in self._gone and (known is None or version_of(body) > known.version)

    def put(self, body: Json) -> _V | None:
        """Take an object in; an older version than the one known changes nothing.

        Returns:
            What was parsed, None if nothing is new.
        """
        if not self.is_news(body):
            return None
        metadata = body["metadata"]
        uid, version = metadata["uid"], version_of(body)
        known = self._entries.get(uid)
        value = self._parse(body)
        name = metadata["namespace"], metadata["name"]
        self._entries[uid] = _Entry(version, value, name)
        if self._owner is not None:
            owner = self._owner(value)
            if known is not None and self._owner(known.value) != owner:
                self._disown(uid, known.value)
            if owner is not None:
                self._owned.setdefault(owner, {})[uid] = value
        # What was deleted may be told of after what was made in its place.
        holder = self._entries.get(self._names.get(name, uid))
        if holder is None or holder.version <= version:
            self._names[name] = uid
        for listener in self._listeners:
            if not listener.done():
                listener.set_result(None)
        self._listeners.clear()
        if self.on_new is not None:
            self.on_new(value)
        return value

    def remove(self, body: Json) -> _V | None:
        """Take an object out that was deleted, and return what was known of it."""
        metadata = body["metadata"]
        return self._drop(metadata["uid"], (metadata["namespace"], metadata["name"]))

    def missing(
        self, uids: set[str], version: int, namespace: str | None
    ) -> list[tuple[str, tuple[str, str]]]:
        """Return UID and name of what a full list did not have; what is newer than the list is not missing.

        Args:
            uids: all that were listed.
            version: resourceVersion of the list.
            namespace: that was listed; None: all.
        """
        return [
            (uid, entry.name)
            for uid, entry in self._entries.items()
            if uid not in uids
            and (namespace is None or entry.name[0] == namespace)
            and entry.version <= version
        ]

    def _drop(self, uid: str, name: tuple[str, str]) -> _V | None:
        entry = self._entries.pop(uid, None)
        if entry is not None:
            self._disown(uid, entry.value)
        if self._names.get(name) == uid:
            del self._names[name]
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        return None if entry is None else entry.value

    def _disown(self, uid: str, value: _V) -> None:
        if self._owner is not None and (owner := self._owner(value)) is not None:
            owned = self._owned.get(owner, {})
            owned.pop(uid, None)
            if not owned:
                self._owned.pop(owner, None)


@dataclass(slots=True)
class Store:
    """All that is known."""

    tasks: Shelf[TaskView | FinishedTask]
    pods: Shelf[PodView]
    pools: Shelf[SandboxPool]
    tools: Shelf[Tool | None]
    #: Loop time when the last complete look at all tasks began.
    tasks_listed_at: float = 0.0
    #: Pods that are gone, as they were last seen: why they went.
    gone_pods: OrderedDict[tuple[str, str], PodView] = field(default_factory=OrderedDict)
    _catalogues: dict[str, Catalogue] = field(default_factory=dict)

    async def pod_news(self) -> None:
        """Wait until something about any pod is new."""
        await self.pods.news()

    def pod_is_gone(self, pod: PodView) -> None:
        """Remember a pod that was deleted."""
        self.gone_pods[pod.key.namespace, pod.key.name] = pod
        while len(self.gone_pods) > _GONE_PODS:
            self.gone_pods.popitem(last=False)

    def last_seen(self, namespace: str, name: str) -> PodView | None:
        """Return a pod that is gone, as it was last seen."""
        return self.gone_pods.get((namespace, name))

    def catalogue(self, namespace: str) -> Catalogue:
        """Return the tools of a namespace: the built-in ones, and its own, which go before them."""
        found = self._catalogues.get(namespace)
        if found is None:
            found = Catalogue.builtin()
            tools = (tool for tool in self.tools if tool is not None and tool.metadata.namespace == namespace)
            # Of two of one name the older was deleted, and that has not been told yet.
            for tool in sorted(tools, key=version_of_tool):
                found.register(tool, replace=True)
            self._catalogues[namespace] = found
        return found

    def tools_changed(self, namespace: str) -> None:
        """Forget the catalogue of a namespace: its tools changed."""
        self._catalogues.pop(namespace, None)
