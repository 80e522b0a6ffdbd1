"""M5: nobody gets in without a key that is good now, and nobody does what their role does not have."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral_gateway.identity.roles import Role
from integration.gateway.running import CALCULATE, Gateway, problem

#: What is open to everybody; a new route is closed, or is put here on purpose.
OPEN = {"/health", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}


def _routes(gateway: Gateway) -> list[tuple[str, str]]:
    paths = gateway.app.openapi()["paths"]
    found = [(method.upper(), path) for path, item in paths.items() for method in item]
    assert len(found) >= 8
    return [(method, path) for method, path in found if path not in OPEN]


def _every_route(routes: Iterable[Any]) -> list[Any]:
    """Return the routes themselves, those of included routers too, however FastAPI keeps them."""
    found = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        found += [route] if inner is None else _every_route(inner.routes)
    return found


async def test_M5_every_route_but_the_open_ones_refuses_the_unauthenticated(gateway: Gateway) -> None:
    # What the document leaves out has no business being there.
    routes = _every_route(gateway.app.routes)
    pages = {"/static-offline-docs"}  # what /docs and /redoc are made of
    assert {route.path for route in routes} - OPEN - pages == {path for _, path in _routes(gateway)}
    async with gateway.http() as nobody:
        for path in OPEN - {"/docs/oauth2-redirect"}:
            assert (await nobody.get(path)).status_code == 200
        for method, path in _routes(gateway):
            answer = await nobody.request(method, path.replace("{uid}", "x").replace("{name}", "shell"))
            assert problem(answer) == (401, "Unauthenticated"), (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_M5_a_key_that_is_wrong_expired_or_revoked_opens_nothing_and_says_the_same(
    gateway: Gateway,
) -> None:
    good = await gateway.key("someone")
    last = "A" if good[-2] != "A" else "B"
    revoked = await gateway.key("someone")
    assert await gateway.keys.revoke(revoked.split("_")[1], datetime.now(UTC))
    expired = await gateway.key("someone", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    bad = [
        *("", "corral_", good[:-1], f"{good}x", f"{good[:-2]}{last}{good[-1]}", good.upper()),
        *(f"corral_{'0' * 12}_{good[-43:]}", f" {good}x", revoked, expired),
    ]
    answers = set()
    for key in bad:
        async with gateway.http(key) as client:
            answer = await client.get("/v1/tools")
            assert problem(answer) == (401, "Unauthenticated"), key
            answers.add(answer.json()["detail"])
    assert answers == {"this key is not valid"}
    async with gateway.http(good) as client:
        assert (await client.get("/v1/tools")).status_code == 200


async def test_M5_a_key_goes_as_a_bearer_token_too(gateway: Gateway) -> None:
    key = await gateway.key("someone")
    async with gateway.http() as client:
        for scheme in ("Bearer", "bearer"):
            answer = await client.get("/v1/tools", headers={"Authorization": f"{scheme} {key}"})
            assert answer.status_code == 200
        answer = await client.get("/v1/tools", headers={"Authorization": f"Basic {key}"})
        assert problem(answer) == (401, "Unauthenticated")


async def test_M5_a_key_is_kept_as_its_hash(gateway: Gateway) -> None:
    key = await gateway.key("someone")
    (kept,) = await gateway.keys.all()
    assert key.split("_", 2)[2] not in repr(kept)


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.AUDITOR, 403), (Role.RUNNER, 201)])
async def test_M5_only_a_role_that_may_run_tasks_runs_them(gateway: Gateway, role: Role, status: int) -> None:
    async with await gateway.caller("someone", role) as client:
        answer = await client.post("/v1/tasks?wait=60s", json=CALCULATE)
        assert answer.status_code == status
        if status == 403:
            assert problem(answer) == (403, "Forbidden")
            assert "tasks:run" in answer.json()["detail"]
        assert (await client.get("/v1/tasks")).status_code == 200


async def test_M5_anothers_task_is_as_one_that_does_not_exist(gateway: Gateway) -> None:
    async with await gateway.caller("owner") as owner, await gateway.caller("other", Role.ADMIN) as other:
        uid = (await owner.post("/v1/tasks", json=CALCULATE)).json()["metadata"]["uid"]
        for method, path in _routes(gateway):
            if "{uid}" in path:
                theirs = await other.request(method, path.replace("{uid}", uid))
                none = await other.request(method, path.replace("{uid}", uid[::-1]))
                assert problem(theirs) == problem(none) == (404, "TaskNotFound"), (method, path)
        assert (await other.get("/v1/tasks")).json() == {"items": []}
        assert (await owner.get(f"/v1/tasks/{uid}")).status_code == 200
