"""An API server in memory: objects with versions, checked as the real one checks them, and trouble on demand."""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from corral.cluster.port import PODS, AlreadyExists, Conflict, NotFound, ObjectKey, Resource

Json = dict[str, Any]
#: Called before each request with the verb, the plural and the name, which for a log is its stream; it may wait, or
#: raise what the server answers.
Before = Callable[[str, str, str], Awaitable[None]]


class Body(dict[str, Any]):
    """An object of a page, that a weak reference can follow."""


class ApiServer:
    """What the operator sees of a cluster."""

    def __init__(self, page: int = 100) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        #: Every request, in order: verb, plural, name.
        self.requests: list[tuple[str, str, str]] = []
        self.before: Before | None = None
        #: What every container printed, by stream.
        self.printed: dict[str, bytes] = {}
        #: Called with a page when the next one, or the end, is asked for.
        self.after_page: Callable[[list[Json]], None] = lambda _: None
        self._page = page
        self._version = 100

    def put(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        """Somebody writes an object."""
        self._version += 1
        stored = copy.deepcopy(dict(body))
        stored["metadata"] |= {"resourceVersion": str(self._version)}
        stored["metadata"].setdefault("uid", f"uid-{self._version}")
        self.objects[self._key(resource, stored["metadata"]["namespace"], stored["metadata"]["name"])] = (
            stored
        )
        return copy.deepcopy(stored)

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
        self._find(resource, namespace, body["metadata"]["name"])
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
        for field in ("uid", "resourceVersion"):
            if body.get("metadata", {}).get(field, found["metadata"][field]) != found["metadata"][field]:
                raise Conflict(409, "Conflict", f"another {field}", {})
        part = subresource or "spec"
        merged = {**found.get(part, {}), **body[part]}
        return self.put(resource, {**found, part: {k: v for k, v in merged.items() if v is not None}})

    async def delete(self, resource: Resource, key: ObjectKey, *, grace_seconds: int | None = None) -> None:
        del grace_seconds
        await self._begin("delete", resource, key.name)
        self.objects.pop(self._key(resource, key.namespace, key.name), None)

    async def logs(self, namespace: str, pod: str, container: str, limit_bytes: int, stream: str) -> bytes:
        del namespace, pod, container
        await self._begin("logs", PODS, stream)
        return self.printed[stream][:limit_bytes]

    async def close(self) -> None:
        return

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
    def _key(resource: Resource, namespace: str, name: str) -> tuple[str, str, str]:
        return resource.plural, namespace, name
