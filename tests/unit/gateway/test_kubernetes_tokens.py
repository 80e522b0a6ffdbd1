"""M5: tokens of the cluster: whose they are, and what their owners may, as the API server says."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import pytest

from corral.cluster.port import SUBJECT_ACCESS_REVIEWS, Json, Refused, Resource, Unavailable
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.kubernetes_tokens import KubernetesTokens
from corral_gateway.identity.roles import Scope
from corral_gateway.identity.verifiers import RefusedCredentialError
from corral_gateway.problems import ProblemError
from eventually import eventually_async
from unit.gateway.tokens import unsigned

BOT = "system:serviceaccount:team:bot"
ALL = {
    *(("get", "agenttasks"), ("create", "agenttasks"), ("delete", "agenttasks")),
    *(("get", "tools"), ("create", "tools"), ("update", "tools"), ("delete", "tools")),
}


class World:
    """An API server that answers reviews, and a clock."""

    def __init__(self, *audiences: str) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, Json]] = []
        self.status: Json = {"authenticated": True, "user": {"username": BOT, "uid": "7", "groups": ["g"]}}
        self.allowed = set(ALL)
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.tokens = KubernetesTokens(self, audiences, self.namespace_of, lambda: self.now)

    def namespace_of(self, caller: str) -> str:
        if caller.startswith("kubernetes:"):
            raise ProblemError(HTTPStatus.FORBIDDEN, "NoNamespace", "none")
        return "team-tasks"

    async def review(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        self.asked.append((resource.plural, dict(body["spec"])))
        assert resource.path().startswith("/apis/")
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if resource is not SUBJECT_ACCESS_REVIEWS:
            return {**body, "status": self.status}
        wanted = body["spec"]["resourceAttributes"]
        return {**body, "status": {"allowed": (wanted["verb"], wanted["resource"]) in self.allowed}}

    async def close(self) -> None:
        """Nothing is open."""

    async def caller(self, text: str = "token") -> Caller | None:
        try:
            return self.tokens.known(text) or await self.tokens.verify(text)
        except RefusedCredentialError:
            return None

    def reviews(self) -> int:
        return sum(plural == "tokenreviews" for plural, _ in self.asked)


async def test_M5_a_service_account_is_a_caller_in_the_namespace_of_its_tasks() -> None:
    world = World()
    end = int(time.time()) + 3600
    caller = await world.caller(unsigned({"alg": "RS256"}, {"exp": end}))
    assert caller == Caller(
        BOT,
        frozenset({Scope.TASKS_READ, Scope.TASKS_RUN, Scope.TOOLS_READ, Scope.TOOLS_WRITE}),
        f"kubernetes:{BOT}",
        "kubernetes",
        expires_at=datetime.fromtimestamp(end, UTC),
        namespace="team-tasks",
    )
    for plural, spec in world.asked[1:]:
        assert plural == "subjectaccessreviews"
        assert (spec["user"], spec["uid"], spec["groups"]) == (BOT, "7", ["g"])
        assert spec["resourceAttributes"]["namespace"] == "team-tasks"
        assert spec["resourceAttributes"]["group"] == "corral.dev"


@pytest.mark.parametrize(
    ("lacks", "scopes"),
    [
        (ALL, set()),
        ({("delete", "agenttasks")}, {Scope.TASKS_READ, Scope.TOOLS_READ, Scope.TOOLS_WRITE}),
        ({("create", "agenttasks")}, {Scope.TASKS_READ, Scope.TOOLS_READ, Scope.TOOLS_WRITE}),
        ({("get", "agenttasks")}, {Scope.TASKS_RUN, Scope.TOOLS_READ, Scope.TOOLS_WRITE}),
        ({("update", "tools")}, {Scope.TASKS_READ, Scope.TASKS_RUN, Scope.TOOLS_READ}),
    ],
)
async def test_M5_a_scope_needs_every_right_that_it_stands_for(
    lacks: set[tuple[str, str]], scopes: set[Scope]
) -> None:
    world = World()
    world.allowed -= lacks
    caller = await world.caller()
    assert caller is not None
    assert caller.scopes == scopes


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"authenticated": False, "user": {"username": BOT}},
        {"authenticated": "true", "user": {"username": BOT}},
        {"authenticated": True},
        {"authenticated": True, "user": {}},
        {"authenticated": True, "user": {"username": ""}},
        {"authenticated": True, "user": {"username": BOT}, "audiences": ["https://kubernetes.default.svc"]},
        {"authenticated": True, "user": {"username": BOT}, "audiences": []},
        {"authenticated": True, "user": {"username": BOT}},
    ],
)
async def test_M5_a_token_of_nobody_or_for_somebody_else_opens_nothing(status: Json) -> None:
    world = World("corral")
    world.status = status
    assert await world.caller() is None
    assert world.asked[0][1]["audiences"] == ["corral"]
    world.tokens._remembered.forget()
    world.status = {"authenticated": True, "user": {"username": BOT}, "audiences": ["corral"]}
    assert await world.caller() is not None


async def test_M5_a_user_without_a_namespace_is_somebody_who_may_nothing() -> None:
    world = World()
    world.status = {"authenticated": True, "user": {"username": "agent-api-key"}}
    caller = await world.caller()
    assert caller is not None
    assert (caller.name, caller.scopes, caller.namespace) == ("kubernetes:agent-api-key", frozenset(), None)


async def test_M5_an_answer_is_kept_for_ten_seconds_good_or_bad() -> None:
    world = World()
    assert await world.caller() is not None
    world.now = 9.9
    world.status = {"authenticated": False}
    assert await world.caller() is not None
    assert world.reviews() == 1
    world.now = 10
    assert await world.caller() is None, "it was taken back"
    world.status = {"authenticated": True, "user": {"username": BOT}}
    assert await world.caller() is None
    assert world.reviews() == 2
    world.now = 20
    assert await world.caller() is not None


async def test_M5_many_requests_with_one_token_ask_once_and_no_token_is_kept() -> None:
    world = World()
    world.gate = asyncio.Event()
    many = [asyncio.ensure_future(world.caller("a-secret")) for _ in range(20)]
    await eventually_async(lambda: world.reviews() == 1)
    many[0].cancel()
    world.gate.set()
    assert all(caller is not None for caller in await asyncio.gather(*many[1:]))
    assert world.reviews() == 1
    assert "a-secret" not in repr(world.tokens._remembered._answers)


async def test_M5_while_the_api_server_does_not_answer_nothing_is_believed() -> None:
    world = World()
    for error in (Unavailable("away"), Refused(403, "Forbidden", "no such right", {})):
        world.error = error
        with pytest.raises(ProblemError) as refused:
            await world.caller()
        assert (refused.value.status, refused.value.reason) == (503, "IdentityUnavailable")
    world.error = Refused(400, "BadRequest", "no token", {})
    assert await world.caller() is None
    world.error, world.now = None, 10
    assert await world.caller() is not None


async def test_M5_the_memory_of_answers_is_bounded() -> None:
    world = World()
    world.status = {"authenticated": False}
    for number in range(10_050):
        await world.caller(f"wrong-{number}")
    assert len(world.tokens._remembered) == 10_000
