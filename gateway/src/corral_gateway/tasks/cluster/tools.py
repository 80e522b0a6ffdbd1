"""The tools of a cluster's namespaces: ``Tool`` resources, from a watch, and the built-in ones."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from pydantic import ValidationError

from corral.api import Tool
from corral.catalogue import Catalogue
from corral.cluster.mirror import Mirror, version_of
from corral.cluster.port import TOOLS, Json, WatchedCluster
from corral_gateway.tasks.cluster import refusals
from corral_gateway.tasks.cluster.namespaces import Namespaces

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    namespace: str
    version: int
    #: None: it cannot be read, so the operator does not know it either.
    tool: Tool | None


class _Shelf:
    """Implements ``Picture``: tools by UID, catalogues by namespace, made anew when a tool of theirs changed."""

    def __init__(self) -> None:
        self._tools: dict[str, _Kept] = {}
        self._catalogues: dict[str, Catalogue] = {}

    def put(self, body: Json) -> None:
        uid, namespace, version = body["metadata"]["uid"], body["metadata"]["namespace"], version_of(body)
        before = self._tools.get(uid)
        if before is None or before.version < version:
            self._tools[uid] = _Kept(namespace, version, _tool(body))
            self._catalogues.pop(namespace, None)

    def remove(self, body: Json) -> None:
        self._drop(body["metadata"]["uid"])

    def listed(self, namespace: str | None, uids: Collection[str], version: int) -> None:
        for uid, kept in list(self._tools.items()):
            if uid not in uids and kept.version <= version and namespace in {None, kept.namespace}:
                self._drop(uid)

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

    def _drop(self, uid: str) -> None:
        kept = self._tools.pop(uid, None)
        if kept is not None:
            self._catalogues.pop(kept.namespace, None)


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


def _tool(body: Json) -> Tool | None:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    try:
        return Tool.model_validate(
            {**body, "metadata": metadata}, by_alias=True, by_name=False, extra="ignore"
        )
    except ValidationError as error:
        log.warning("the tool %s/%s: %s", metadata["namespace"], metadata["name"], error)
        return None
