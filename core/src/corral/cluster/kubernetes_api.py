"""The port, over the official client's transport: its configuration, its authentication, its connections.

Its models are left out: turning a list of 1,000 pods into them blocks the event loop for 300 to 700 ms.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from corral.cluster.port import (
    AGENT_TASKS,
    PODS,
    AlreadyExists,
    Conflict,
    Gone,
    Json,
    NotFound,
    ObjectKey,
    Refused,
    Resource,
    Unavailable,
)

#: Nothing that is asked for takes longer on a healthy API server; a frozen one is given up then. The longest
#: answer is a page of tasks, of 20 MB at most.
_TIMEOUT_SECONDS = 15.0
_PAGE = 250
#: A task is a spec of 64 KiB and a status of 768 KiB at most: a page of 250 could be 200 MB, of which the operator's
#: memory would hold the bytes and the objects at once.
TASKS_PAGE = 25
#: Requests at once.
_CONNECTIONS = 64
_MERGE_PATCH = "application/merge-patch+json"
#: "Too many requests", and what an API server or a proxy before it answers while it cannot.
_LATER = frozenset({408, 429, 500, 502, 503, 504})
#: etcd, or gRPC on the way to it, refuses a large object, and the API server hands that on as a 500
#: (kubernetes/kubernetes#112152). The same request will be as large the next time.
_TOO_LARGE = re.compile(r"etcdserver: request is too large|trying to send message larger than max")


#: The API server ends a watch when it was asked to; one that it has not ended so much later stands still.
_WATCH_LATE_SECONDS = 10.0
_WATCH_OPEN_SECONDS = 15.0
_BOOKMARKS = {"watch": "true", "allowWatchBookmarks": "true"}


OnRequest = Callable[[str, str, str], None]


def _nobody_waits() -> None:
    """Tell nobody."""


def _nobody_counts(_method: str, _plural: str, _status: str) -> None:
    """Count nothing."""


class KubernetesCluster:
    """A cluster, reached as the service account of this pod, or as the current context of a kubeconfig."""

    def __init__(self, configuration: client.Configuration, on_request: OnRequest = _nobody_counts) -> None:
        # No limit here: a watch holds its connection for as long as it is open, and requests have theirs below.
        configuration.connection_pool_maxsize = 0
        self._configuration = configuration
        self._on_request = on_request
        # Whoever waits for a connection has asked nothing yet, so its time does not run.
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._rest = client.rest.RESTClientObject(configuration)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def connect(cls, on_request: OnRequest = _nobody_counts) -> Self:
        """Find the configuration: in-cluster first, then KUBECONFIG or ~/.kube/config.

        Args:
            on_request: is told method, plural and status ("none" without an answer) of every request, to count them.

        Raises:
            kubernetes.aio.config.ConfigException: there is none.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return cls(configuration, on_request)

    def apart(self) -> Self:
        """Return the same cluster over connections of its own: what must not wait behind a thousand other requests."""
        return type(self)(self._configuration, self._on_request)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        return await self._json("GET", resource, resource.path(namespace, name))

    async def pages(
        self, resource: Resource, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[tuple[list[Json], int]]:
        query = {"limit": str(TASKS_PAGE if resource is AGENT_TASKS else _PAGE)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        while True:
            answer = await self._json("GET", resource, resource.path(namespace), query=query)
            yield answer["items"], int(answer["metadata"]["resourceVersion"])
            following = answer["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        return await self._json("POST", resource, resource.path(namespace), body=body)

    async def review(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        """Ask the API server about something that it does not keep, such as whose a token is."""
        return await self._json("POST", resource, resource.path(), body=body)

    async def replace(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        return await self._json(
            "PUT", resource, resource.path(namespace, body["metadata"]["name"]), body=body
        )

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Json:
        path = resource.path(namespace, name, subresource)
        return await self._json("PATCH", resource, path, body=body, content_type=_MERGE_PATCH)

    async def delete(self, resource: Resource, key: ObjectKey, *, grace_seconds: int | None = None) -> None:
        body: Json = {
            "preconditions": {"uid": key.uid},
            # What it owns goes with it, but nobody waits for that.
            "propagationPolicy": "Background",
        }
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._json("DELETE", resource, resource.path(key.namespace, key.name), body=body)
        except (NotFound, Conflict):
            return  # gone, or its name belongs to another object now

    async def logs(self, namespace: str, pod: str, container: str, limit_bytes: int, stream: str) -> bytes:
        query = {"container": container, "limitBytes": str(limit_bytes)}
        if stream != "All":  # not known to API servers before 1.32
            query["stream"] = stream
        return await self._request("GET", PODS, PODS.path(namespace, pod, "log"), query=query)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        *,
        seconds: int,
        field_selector: str = "",
        on_open: Callable[[], None] = _nobody_waits,
    ) -> AsyncGenerator[Json]:
        path = resource.path(namespace)
        query = {**_BOOKMARKS, "timeoutSeconds": str(seconds)}
        query |= {"resourceVersion": version} if version else {}
        query |= {"fieldSelector": field_selector} if field_selector else {}
        code = "none"
        # Not one of the connections that requests wait for: it would hold one for as long as it is open.
        try:
            async with asyncio.timeout(_WATCH_OPEN_SECONDS):
                response = await self._open("GET", path, query, seconds=seconds + _WATCH_LATE_SECONDS)
            async with response:
                code = str(response.status)
                if response.status >= 400:
                    retry_after = response.headers.get("Retry-After")
                    raise _error("GET", path, response.status, retry_after, await response.read())
                on_open()
                async for line in _lines(response):
                    yield _watched(path, line)
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            raise Unavailable(f"GET {path}: the watch: {error!r}") from error
        finally:
            self._on_request("watch", resource.plural, code)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._rest.close()

    async def _json(self, method: str, resource: Resource, path: str, **options: Any) -> Json:
        content = await self._request(method, resource, path, **options)
        try:
            answer: Json = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{method} {path}: the answer cannot be read: {error!r}") from error
        return answer

    async def _request(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        code = "none"
        async with self._free:
            try:
                async with await self._open(
                    method, path, query or {}, seconds=_TIMEOUT_SECONDS, data=data, content_type=content_type
                ) as response:
                    code = str(response.status)
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
                raise Unavailable(f"{method} {path}: {error!r}") from error
            finally:
                self._on_request(method.lower(), resource.plural, code)
        if response.status >= 400:
            raise _error(method, path, response.status, response.headers.get("Retry-After"), content)
        return content

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        seconds: float,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """Send a request as the client's configuration says, and return what begins to answer."""
        if self._session is None:
            # The client's own session, made as it makes it: proxies, certificates, connection limits.
            self._session = self._rest._create_pool_manager()  # noqa: SLF001 - meant to be overridden, so stable
        headers = {"Accept": "application/json", "Content-Type": content_type}
        settings: Mapping[str, Any] = await self._configuration.auth_settings()
        for setting in settings.values():
            headers[setting["key"]] = setting["value"]
        return await self._session.request(
            method,
            self._configuration.host + path + (f"?{urlencode(query)}" if query else ""),
            data=data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=seconds),
            proxy=self._configuration.proxy,
            server_hostname=self._configuration.tls_server_name or None,
        )


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, however long they are."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(rest + lines[0])
            rest.clear()
        rest += last
        for line in lines:
            if line:
                yield line


def _watched(path: str, line: bytes) -> Json:
    """Read one event of a watch."""
    try:
        event: Json = json.loads(line)
        kind, body = event["type"], event["object"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Unavailable(f"GET {path}: the watch tells what cannot be read: {error!r}") from error
    if kind == "ERROR":
        message, code = str(body.get("message") or "no message"), int(body.get("code") or 0)
        if code == 410:
            raise Gone(code, str(body.get("reason") or ""), message, body)
        raise Unavailable(f"GET {path}: the watch: {code} {message}")
    return event


def _error(method: str, path: str, status: int, retry_after: str | None, content: bytes) -> Exception:
    try:
        body = json.loads(content)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = str(body.get("message") or content[:500].decode("utf-8", "replace") or "no message")
    reason = str(body.get("reason") or "")
    if status == 500 and _TOO_LARGE.search(message):
        return Refused(413, "RequestEntityTooLarge", message, body)
    if status in _LATER:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        return Unavailable(f"{method} {path}: {status} {message}", seconds)
    kinds: dict[int, type[Refused]] = {404: NotFound, 409: Conflict, 410: Gone}
    kind = AlreadyExists if reason == "AlreadyExists" else kinds.get(status, Refused)
    return kind(status, reason, message, body)
