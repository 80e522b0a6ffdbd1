"""The adapter to a real API server, on an HTTP server that answers as one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import AGENT_TASKS, PODS, TOKEN_REVIEWS, Refused, Resource, Unavailable
from corral_operator.handlers import watch_settings

TOO_LARGE = "etcdserver: request is too large"


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


@pytest.mark.parametrize(("resource", "limit"), [(AGENT_TASKS, "25"), (PODS, "250")])
async def test_B15_a_page_of_tasks_is_small_because_a_task_may_be_large(
    resource: Resource, limit: str
) -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        following = {} if "continue" in request.query else {"continue": "next"}
        items = [{"metadata": {"name": str(len(asked))}}]
        return web.json_response({"metadata": {"resourceVersion": "7", **following}, "items": items})

    async with _cluster(answer) as cluster:
        found = [
            (page[0]["metadata"]["name"], version) async for page, version in cluster.pages(resource, "team")
        ]
    assert found == [("1", 7), ("2", 7)]
    assert asked == [{"limit": limit}, {"limit": limit, "continue": "next"}]


def test_B15_kopf_lists_by_pages_too() -> None:
    assert watch_settings().watching.chunk_size == 25


@pytest.mark.parametrize(
    ("code", "message", "kind", "status"),
    [
        (500, TOO_LARGE, Refused, 413),
        (500, "rpc error: trying to send message larger than max (3 vs. 2)", Refused, 413),
        (413, "Request entity too large: limit is 3145728", Refused, 413),
        (422, "status.executions is wrong", Refused, 422),
        (500, "etcdserver: leader changed", Unavailable, None),
        (503, TOO_LARGE, Unavailable, None),
    ],
)
async def test_B13_what_will_be_too_large_again_is_told_from_what_may_pass(
    code: int, message: str, kind: type[Exception], status: int | None
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)

    async with _cluster(answer) as cluster:
        with pytest.raises(kind) as error:
            await cluster.patch(AGENT_TASKS, "team", "job", {"status": {}}, subresource="status")
    assert getattr(error.value, "status", None) == status


async def test_M5_a_review_is_asked_of_the_whole_cluster_and_no_error_repeats_what_was_asked() -> None:
    answers = [web.json_response({"status": {"authenticated": True}}), web.Response(status=503, text="later")]
    asked: list[tuple[str, str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path, await request.json()))
        return answers.pop(0)

    body = {"kind": "TokenReview", "spec": {"token": "a-secret"}}
    async with _cluster(answer) as cluster:
        assert await cluster.review(TOKEN_REVIEWS, body) == {"status": {"authenticated": True}}
        with pytest.raises(Unavailable) as error:
            await cluster.review(TOKEN_REVIEWS, body)
    assert asked == [("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)] * 2
    assert "a-secret" not in str(error.value)
