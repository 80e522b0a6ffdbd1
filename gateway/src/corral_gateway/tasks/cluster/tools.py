"""The tools of a cluster's namespaces: ``Tool`` resources, from a watch, and the built-in ones."""

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pydantic import ValidationError

from corral.api import Tool
from corral.catalogue import Catalogue
from corral.cluster.mirror import Mirror, version_of
from corral.cluster.port import TOOLS, Json, WatchedCluster
from corral_gateway.tasks.cluster import refusals
from corral_gateway.tasks.cluster.namespaces import Namespaces
from corral_gateway.tasks.cluster.tool_bodies import registered_by, tool_of

log = logging.getLogger(__name__)

#: UIDs of deleted tools, remembered so that a late event does not bring them back.
_TOMBSTONES = 10_000
#: What was written is told by the watch within milliseconds. While it is away, what was written is taken for known.
_TOLD_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Kept:
    namespace: str
    version: int
    #: The label of who registered it; None: it did not come through the gateway.
    registered_by: str | None
    #: None: it cannot be read, so the operator does not know it either.
    tool: Tool | None


class _Shelf:
    """Implements ``Picture``: tools by UID, catalogues by namespace, made anew when a tool of theirs changed."""

    def __init__(self) -> None:
        self._tools: dict[str, _Kept] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._catalogues: dict[str, Catalogue] = {}
        self._news = asyncio.Event()

    def put(self, body: Json) -> None:
        uid, namespace, version = body["metadata"]["uid"], body["metadata"]["namespace"], version_of(body)
        before = self._tools.get(uid)
        if uid not in self._gone and (before is None or before.version < version):
            self._tools[uid] = _Kept(namespace, version, registered_by(body), _tool(body))
            self._changed(namespace)

    def remove(self, body: Json) -> None:
        self.drop(body["metadata"]["uid"])

    def listed(self, namespace: str | None, uids: Collection[str], version: int) -> None:
        for uid, kept in list(self._tools.items()):
            if uid not in uids and kept.version <= version and namespace in {None, kept.namespace}:
                self.drop(uid)

    def drop(self, uid: str) -> None:
        """Take out a tool that was deleted."""
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        kept = self._tools.pop(uid, None)
        if kept is not None:
            self._changed(kept.namespace)

    def catalogue(self, namespace: str) -> Catalogue:
        """Return the tools of a namespace: the built-in ones, and its own, which go before them."""
        found = self._catalogues.get(namespace)
        if found is None:
            found = Catalogue.builtin()
            for kept in self._tools.values():
                if kept.namespace == namespace and kept.tool is not None:
                    found.register(kept.tool, replace=True)
            self._catalogues[namespace] = found
        return found

    def registered(self, namespace: str) -> Counter[str]:
        """Return how many tools of a namespace came through the gateway, by the label of who registered them."""
        return Counter(
            kept.registered_by
            for kept in self._tools.values()
            if kept.namespace == namespace and kept.registered_by is not None
        )

    def has(self, uid: str, version: int) -> bool:
        """Whether a tool is known in a version, or in a newer one; or is gone since."""
        kept = self._tools.get(uid)
        return uid in self._gone or (kept is not None and kept.version >= version)

    def is_gone(self, uid: str) -> bool:
        """Whether a tool is known to be deleted."""
        return uid in self._gone

    async def until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_so():
                    await self._news.wait()

    def _changed(self, namespace: str) -> None:
        self._catalogues.pop(namespace, None)
        self._news.set()
        self._news = asyncio.Event()


class ClusterTools:
    """A ``ToolSource``: each caller has the tools of its namespace."""

    def __init__(self, watching: WatchedCluster, namespaces: Namespaces) -> None:
        """Prepare; ``start`` connects.

        Args:
            watching: the cluster, over connections for watches.
            namespaces: whose tasks, and so whose tools, are where.
        """
        self._namespaces = namespaces
        self._shelf = _Shelf()
        self._mirrors = {one: Mirror(watching, TOOLS, one, self._shelf) for one in namespaces.watched}
        self._work: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to watch."""
        loop = asyncio.get_running_loop()
        self._work = [
            loop.create_task(mirror.run(), name="watch of tools") for mirror in self._mirrors.values()
        ]

    async def close(self) -> None:
        """Stop watching."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def catalogue(self, caller: str) -> Catalogue:
        """Return the tools of a caller's namespace; see ``ToolSource``."""
        namespace = self._namespaces.of(caller)
        mirror = self._mirrors.get(None) or self._mirrors[namespace]
        if not mirror.is_complete:
            raise refusals.away()
        return self._shelf.catalogue(namespace)

    def registered(self, namespace: str) -> Counter[str]:
        """Return how many tools of a namespace came through the gateway, by the label of who registered them."""
        return self._shelf.registered(namespace)

    async def written(self, body: Json) -> None:
        """Return when a tool is known that was just written."""
        uid, version = body["metadata"]["uid"], version_of(body)
        await self._shelf.until(lambda: self._shelf.has(uid, version), _TOLD_SECONDS)
        self._shelf.put(body)

    async def deleted(self, uid: str) -> None:
        """Return when a tool is not known any more that was just deleted."""
        await self._shelf.until(lambda: self._shelf.is_gone(uid), _TOLD_SECONDS)
        self._shelf.drop(uid)


def _tool(body: Json) -> Tool | None:
    try:
        return tool_of(body)
    except ValidationError as error:
        log.warning("the tool %s/%s: %s", body["metadata"]["namespace"], body["metadata"]["name"], error)
        return None
