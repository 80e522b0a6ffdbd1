"""An API server in memory: objects with versions, checked as the real one checks them, and trouble on demand."""

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self

from corral.cluster.port import (
    PODS,
    AlreadyExists,
    Conflict,
    Gone,
    NotFound,
    ObjectKey,
    Resource,
    Unavailable,
)

Json = dict[str, Any]
#: Called before each request with the verb, the plural and the name, which for a log is its stream; it may wait, or
#: raise what the server answers.
Before = Callable[[str, str, str], Awaitable[None]]


class Body(dict[str, Any]):
    """An object of a page, that a weak reference can follow."""


class ApiServer:
    """What operator and gateway see of a cluster."""

    def __init__(self, page: int = 100) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        #: Every request, in order: verb, plural, name.
        self.requests: list[tuple[str, str, str]] = []
        self.before: Before | None = None
        #: What every container printed, by stream.
        self.printed: dict[str, bytes] = {}
        #: Called with a page when the next one, or the end, is asked for.
        self.after_page: Callable[[list[Json]], None] = lambda _: None
        #: Watches cannot go on from a version before this one.
        self.forgotten = 0
        #: How many watches are open.
        self.watches = 0
        self._page = page
        self._version = 100
        self._history: list[tuple[int, str, Resource, Json]] = []
        self._news = asyncio.Event()
        self._cuts = 0

    def put(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        """Somebody writes an object."""
        self._version += 1
        stored = copy.deepcopy(dict(body))
        stored["metadata"] |= {"resourceVersion": str(self._version)}
        stored["metadata"].setdefault("uid", f"uid-{self._version}")
        key = self._key(resource, stored["metadata"]["namespace"], stored["metadata"]["name"])
        self._tell("MODIFIED" if key in self.objects else "ADDED", resource, stored)
        self.objects[key] = stored
        return copy.deepcopy(stored)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Somebody deletes an object."""
        self._version += 1
        gone = self.objects.pop(self._key(resource, namespace, name))
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", resource, gone)

    def forget(self) -> None:
        """Drop all objects, requests and the history of changes, as compaction does."""
        self.objects.clear()
        self.requests.clear()
        self._history.clear()
        self.forgotten = self._version

    def cut_watches(self) -> None:
        """End every watch that is open, as a broken connection does."""
        self._cuts += 1
        self._wake()

    def asked(self, verb: str, plural: str) -> int:
        """Return how often something was asked for."""
        return sum(request[:2] == (verb, plural) for request in self.requests)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        await self._begin("get", resource, name)
        return copy.deepcopy(self._find(resource, namespace, name))

    async def pages(
        self, resource: Resource, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[tuple[list[Json], int]]:
        await self._begin("list", resource, "")
        del label_selector, field_selector
        keys = [key for key in self.objects if key[0] == resource.plural and namespace in {None, key[1]}]
        for first in range(0, max(1, len(keys)), self._page):
            items: list[Json] = [
                Body(copy.deepcopy(self.objects[key])) for key in keys[first : first + self._page]
            ]
            yield items, self._version
            self.after_page(items)

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        name = body["metadata"]["name"]
        await self._begin("create", resource, name)
        if self._key(resource, namespace, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", "there", {})
        return self.put(resource, {**body, "metadata": {**body["metadata"], "namespace": namespace}})

    async def replace(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        await self._begin("update", resource, body["metadata"]["name"])
        self._check(self._find(resource, namespace, body["metadata"]["name"]), body)
        return self.put(resource, body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Json:
        await self._begin("patch", resource, name)
        found = self._find(resource, namespace, name)
        self._check(found, body)
        part = subresource or "spec"
        merged = {**found.get(part, {}), **body[part]}
        return self.put(resource, {**found, part: {k: v for k, v in merged.items() if v is not None}})

    async def delete(self, resource: Resource, key: ObjectKey, *, grace_seconds: int | None = None) -> None:
        del grace_seconds
        await self._begin("delete", resource, key.name)
        found = self.objects.get(self._key(resource, key.namespace, key.name))
        if found is not None and found["metadata"]["uid"] == key.uid:
            self.remove(resource, key.namespace, key.name)

    async def logs(self, namespace: str, pod: str, container: str, limit_bytes: int, stream: str) -> bytes:
        del namespace, pod, container
        await self._begin("logs", PODS, stream)
        return self.printed[stream][:limit_bytes]

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        *,
        seconds: int,
        field_selector: str = "",
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Json]:
        del seconds, field_selector
        await self._begin("watch", resource, "")
        seen, cuts = int(version or self._version), self._cuts
        if version and seen < self.forgotten:
            raise Gone(410, "Expired", "too old resource version", {})
        on_open()
        self.watches += 1
        try:
            there = (
                [] if version else [body for key, body in self.objects.items() if key[0] == resource.plural]
            )
            for body in there:
                if namespace in {None, body["metadata"]["namespace"]}:
                    yield {"type": "ADDED", "object": copy.deepcopy(body)}
            while True:
                news = self._news
                for number, kind, told, body in list(self._history):
                    if (
                        number > seen
                        and told is resource
                        and namespace in {None, body["metadata"]["namespace"]}
                    ):
                        seen = number
                        yield {"type": kind, "object": copy.deepcopy(body)}
                if cuts != self._cuts:
                    raise Unavailable("the watch broke")
                await news.wait()
        finally:
            self.watches -= 1

    async def close(self) -> None:
        return

    def apart(self) -> Self:
        """Return the same cluster: here no connection waits behind another."""
        return self

    def _tell(self, kind: str, resource: Resource, body: Json) -> None:
        self._history.append((self._version, kind, resource, copy.deepcopy(body)))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _begin(self, verb: str, resource: Resource, name: str) -> None:
        self.requests.append((verb, resource.plural, name))
        if self.before is not None:
            await self.before(verb, resource.plural, name)

    def _find(self, resource: Resource, namespace: str, name: str) -> Json:
        try:
            return self.objects[self._key(resource, namespace, name)]
        except KeyError:
            raise NotFound(404, "NotFound", "none", {}) from None

    @staticmethod
    def _check(found: Json, body: Mapping[str, Any]) -> None:
        for field in ("uid", "resourceVersion"):
            if body.get("metadata", {}).get(field, found["metadata"][field]) != found["metadata"][field]:
                raise Conflict(409, "Conflict", f"another {field}", {})

    @staticmethod
    def _key(resource: Resource, namespace: str, name: str) -> tuple[str, str, str]:
        return resource.plural, namespace, name
