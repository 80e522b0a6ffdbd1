"""M5: what holds of every route. A route that has no line in ``routes.py`` fails here, by its name."""

import httpx
import pytest

from corral_gateway.identity.roles import Role, Scope
from integration.gateway.routes import OPEN, ROUTES, Entry, routes_of
from integration.gateway.running import CALCULATE, Gateway, problem

_NONE = "00000000-0000-4000-8000-000000000000"


def filled(path: str, entry: Entry, owned: dict[str, str]) -> str:
    """Return a path with names in it."""
    for name, value in (entry.shared | {name: owned[kind] for name, kind in entry.owned.items()}).items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    assert "{" not in path, f"{path}: its line in routes.py does not say what this name is of"
    return path


async def test_M5_every_route_has_its_line_and_every_line_its_route(gateway: Gateway) -> None:
    there = routes_of(gateway.app)
    assert sorted(there - set(ROUTES)) == [], "routes without a line in tests/integration/gateway/routes.py"
    assert sorted(set(ROUTES) - there) == []
    documented = {
        (method.upper(), path) for path, item in gateway.app.openapi()["paths"].items() for method in item
    }
    assert {(method, path) for method, path in documented if path not in OPEN} == there


async def test_M5_nothing_but_the_open_routes_answers_somebody_unknown(gateway: Gateway) -> None:
    async with gateway.http() as nobody:
        for path in OPEN - {"/docs/oauth2-redirect"}:
            assert (await nobody.get(path)).status_code == 200
        for (method, path), entry in ROUTES.items():
            answer = await nobody.request(method, filled(path, entry, {"task": _NONE}), content=b"{")
            assert problem(answer) == (401, "Unauthenticated"), (method, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="corral"'


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_M5_a_route_opens_with_its_scope_alone_and_stays_shut_with_all_others(
    gateway: Gateway, method: str, path: str
) -> None:
    entry = ROUTES[method, path]
    every = frozenset(Scope)
    shut = await gateway.key("someone", Role.ADMIN, narrowed_to=every - {entry.scope})
    opened = await gateway.key(
        "someone",
        Role.ADMIN,
        narrowed_to=frozenset({entry.scope} - {None}),  # type: ignore[arg-type]
    )
    at = filled(path, entry, {"task": _NONE})
    async with gateway.http(shut) as client:
        answer = await client.request(method, at, content=b"{")
        if entry.scope is not None:
            assert problem(answer) == (403, "Forbidden")
            assert entry.scope in answer.json()["detail"]
    async with gateway.http(opened) as client:
        answer = await client.request(method, at, json=entry.body)
        assert answer.status_code not in {401, 403}, answer.text
        assert answer.status_code < 500, answer.text


async def test_M5_anothers_is_to_the_letter_as_what_does_not_exist(gateway: Gateway) -> None:
    async with await gateway.caller("owner") as owner, await gateway.caller("other", Role.ADMIN) as other:
        uid = (await owner.post("/v1/tasks?wait=60s", json=CALCULATE)).json()["metadata"]["uid"]
        for (method, path), entry in ROUTES.items():
            if not entry.owned:
                continue
            answers = []
            for task in (uid, _NONE):
                answer = await other.request(method, filled(path, entry, {"task": task}), json=entry.body)
                assert answer.status_code == 404, (method, path, answer.text)
                answers.append(_without_ids(answer, task))
            assert answers[0] == answers[1], (method, path)
        assert (await other.get("/v1/tasks")).json() == {"items": []}
        assert (await owner.get(f"/v1/tasks/{uid}")).json()["status"]["reason"] == "Completed"


def _without_ids(answer: httpx.Response, asked: str) -> tuple[int, dict[str, str], str]:
    """Return an answer without what differs from one request to the next."""
    headers = {
        name: value
        for name, value in answer.headers.items()
        if not name.startswith(("x-request", "x-ratelimit"))
    }
    return (
        answer.status_code,
        headers,
        answer.text.replace(asked, "ID").replace(answer.headers["x-request-id"], "REQUEST"),
    )


async def test_M5_a_method_that_a_path_has_not_is_answered_with_those_that_it_has(gateway: Gateway) -> None:
    async with gateway.http() as nobody:
        answer = await nobody.put("/v1/tasks/x")
        assert problem(answer) == (405, "MethodNotAllowed")
        assert answer.headers["allow"] == "GET, DELETE"
        assert (await nobody.delete("/v1/tasks")).headers["allow"] == "GET, POST"
