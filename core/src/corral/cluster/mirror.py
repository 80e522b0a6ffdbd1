"""Keeps somebody's picture of one kind of object up to date: one list, then a watch, for ever."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from corral.cluster.port import ClusterError, Gone, Json, Resource, Unavailable, WatchedCluster

log = logging.getLogger(__name__)

#: An API server sends a bookmark before it ends a watch, so that the next one goes on from a version that it knows.
#: A watch that stands still is found out when it should have ended, so this bounds how old the picture gets.
_WATCH_SECONDS = 30
#: An API server that ends watches at once is not asked at the rate of the network.
_HELD_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Picture(Protocol):
    """Who is told. Nothing here may fail or take long."""

    def put(self, body: Json) -> None:
        """Take in an object as it stands. The same one, or an older version of it, may come again."""
        ...

    def remove(self, body: Json) -> None:
        """Take out an object that was deleted."""
        ...

    def listed(self, namespace: str | None, uids: Collection[str], version: int) -> None:
        """Take out what a whole list of this version did not have; what is newer than the list is not missing."""
        ...


class Mirror:
    """One kind of object, in one namespace or in all."""

    def __init__(
        self,
        cluster: WatchedCluster,
        resource: Resource,
        namespace: str | None,
        picture: Picture,
        *,
        on_change: Callable[[], None] = lambda: None,
        watch_seconds: int = _WATCH_SECONDS,
    ) -> None:
        """Prepare; ``run`` does it.

        Args:
            cluster: the API server, best over connections of its own.
            resource: the kind.
            namespace: one, or None for all.
            picture: who is told.
            on_change: called when ``is_current`` changes.
            watch_seconds: how long one watch lasts.
        """
        self._cluster = cluster
        self._resource = resource
        self._namespace = namespace
        self._picture = picture
        self._on_change = on_change
        self._watch_seconds = watch_seconds
        #: A whole list has come at least once.
        self.is_complete = False
        #: As far as anybody can know, the picture is as the cluster is.
        self.is_current = False

    async def run(self) -> None:
        """List and watch until cancelled."""
        version, pause = "", _FIRST_PAUSE_SECONDS
        while True:
            try:
                if not version:
                    version = await self._list()
                began = asyncio.get_running_loop().time()
                watch = self._cluster.watch(
                    self._resource,
                    self._namespace,
                    version,
                    seconds=self._watch_seconds,
                    on_open=self._is_current,
                )
                async with aclosing(watch):
                    async for event in watch:
                        version = self._take(event) or version
                        pause = _FIRST_PAUSE_SECONDS
                if asyncio.get_running_loop().time() - began > _HELD_SECONDS:
                    continue
            except Gone as error:
                log.info("%s: listing again: %s", self._resource.plural, error)
                version = ""
            except ClusterError as error:
                self._is_lost(error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _list(self) -> str:
        uids: set[str] = set()
        latest = 0
        async for page, version in self._cluster.pages(self._resource, self._namespace):
            latest = version
            for body in page:
                uids.add(body["metadata"]["uid"])
                self._tell(self._picture.put, body)
            page.clear()
        self._picture.listed(self._namespace, uids, latest)
        self.is_complete = True
        return str(latest)

    def _take(self, event: Json) -> str:
        """Tell of an event; return the version to go on from."""
        body: dict[str, Any] = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._tell(self._picture.put, body)
            case "DELETED":
                self._tell(self._picture.remove, body)
        return str(body["metadata"].get("resourceVersion") or "")

    def _tell(self, take: Callable[[Json], None], body: Json) -> None:
        try:
            take(body)
        # Whoever is told should not fail. If they do, of one object, the watch must not end without a word.
        except Exception:
            name = body["metadata"].get("name")
            log.exception("%s: %s could not be taken in", self._resource.plural, name)

    def _is_current(self) -> None:
        if not self.is_current:
            self.is_current = True
            self._on_change()

    def _is_lost(self, error: ClusterError) -> None:
        if self.is_current or not isinstance(error, Unavailable):
            log.warning("%s: %s", self._resource.plural, error)
        if self.is_current:
            self.is_current = False
            self._on_change()


def version_of(body: Mapping[str, Any]) -> int:
    """Return a resourceVersion as the number that it is; Kubernetes lets clients compare them (KEP-5504)."""
    text: Any = body["metadata"].get("resourceVersion") or "0"
    return int(text) if str(text).isdigit() else 0
