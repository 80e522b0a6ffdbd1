"""B13: a watch is read as the API server sends it, and its end, however it comes, is told from a silence."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from corral.cluster import kubernetes_api
from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import AGENT_TASKS, Gone, Refused, Unavailable
from eventually import eventually_async


@asynccontextmanager
async def _cluster(answer: Any) -> AsyncIterator[KubernetesCluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        configuration = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        cluster = KubernetesCluster(configuration)
        try:
            yield cluster
        finally:
            await cluster.close()


def _event(kind: str, name: str, **fields: Any) -> bytes:
    body = {"metadata": {"name": name}, **fields}
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


async def _read(cluster: KubernetesCluster, version: str = "7", **options: Any) -> list[tuple[str, str]]:
    return [
        (event["type"], event["object"]["metadata"]["name"])
        async for event in cluster.watch(AGENT_TASKS, "team", version, seconds=5, **options)
    ]


async def test_B13_events_come_whole_however_they_were_cut_on_the_way() -> None:
    large = "x" * 300_000  # longer than any buffer of the client's
    sent = _event("ADDED", "one") + _event("MODIFIED", "two", spec=large) + _event("BOOKMARK", "three")
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(sent), 70_001):
            await response.write(sent[start : start + 70_001])
            await asyncio.sleep(0)
        return response

    opened: list[bool] = []
    async with _cluster(answer) as cluster:
        found = await _read(cluster, field_selector="metadata.name=box", on_open=lambda: opened.append(True))
    assert found == [("ADDED", "one"), ("MODIFIED", "two"), ("BOOKMARK", "three")]
    assert opened == [True]
    assert asked == [
        {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "5",
            "resourceVersion": "7",
            "fieldSelector": "metadata.name=box",
        }
    ]


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}, Gone),
        (200, {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}, Gone),
        (200, {"type": "ERROR", "object": {"code": 500, "message": "etcd"}}, Unavailable),
        (200, {"type": "ADDED"}, Unavailable),
        (200, "no object", Unavailable),
        (403, {"kind": "Status", "reason": "Forbidden", "message": "cannot watch"}, Refused),
        (503, {"kind": "Status", "message": "starting"}, Unavailable),
    ],
)
async def test_B13_what_ends_a_watch_says_what_to_do_next(
    status: int, content: Any, kind: type[Exception]
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=json.dumps(content).encode() + b"\n")

    async with _cluster(answer) as cluster:
        with pytest.raises(kind) as error:
            await _read(cluster)
    assert type(error.value) is kind


async def test_B13_a_watch_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "_WATCH_LATE_SECONDS", -4.5)
    hangs = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_event("ADDED", "one"))
        await hangs.wait()
        return response

    async with _cluster(answer) as cluster:
        try:
            with pytest.raises(Unavailable, match="the watch"):
                await _read(cluster)
        finally:
            hangs.set()


async def test_B13_a_watch_whose_connection_breaks_says_so() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_event("ADDED", "one"))
        assert request.transport is not None
        request.transport.abort()
        return response

    async with _cluster(answer) as cluster:
        with pytest.raises(Unavailable, match="the watch"):
            await _read(cluster)


async def test_B15_watches_take_no_connection_from_requests_nor_from_each_other() -> None:
    begun, ends = 0, asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal begun
        if "watch" not in request.query:
            return web.json_response({"metadata": {"name": "one"}})
        response = web.StreamResponse()
        await response.prepare(request)
        begun += 1
        await ends.wait()
        return response

    async with _cluster(answer) as cluster:
        opened: list[bool] = []
        watches = [
            asyncio.ensure_future(_read(cluster, on_open=lambda: opened.append(True))) for _ in range(100)
        ]
        await eventually_async(lambda: len(opened) == begun == 100)
        assert (await cluster.get(AGENT_TASKS, "team", "one"))["metadata"]["name"] == "one"
        ends.set()
        assert await asyncio.gather(*watches) == [[]] * 100
