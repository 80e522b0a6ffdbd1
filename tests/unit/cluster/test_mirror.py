"""B13: a picture of the cluster stays right through broken watches, forgotten versions and an API server away."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from corral.cluster import mirror as mirrors
from corral.cluster.mirror import Mirror, version_of
from corral.cluster.port import AGENT_TASKS, TOOLS, Json, Unavailable
from eventually import eventually_async
from unit.operator.api_server import ApiServer


class _Picture:
    """What it is told, as it stands."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.lists = 0

    def put(self, body: Json) -> None:
        name, version = body["metadata"]["name"], version_of(body)
        self.now[name] = max(self.now.get(name, 0), version)

    def remove(self, body: Json) -> None:
        self.now.pop(body["metadata"]["name"], None)

    def listed(self, namespace: str | None, uids: Collection[str], version: int) -> None:
        assert namespace == "team"
        assert version
        self.lists += 1
        self.now = {name: seen for name, seen in self.now.items() if f"uid-of-{name}" in uids}


def _task(name: str, namespace: str = "team") -> Json:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(mirrors, "_LONGEST_PAUSE_SECONDS", 0.02)


@asynccontextmanager
async def _mirrored(server: ApiServer) -> AsyncIterator[tuple[_Picture, Mirror]]:
    picture = _Picture()
    mirror = Mirror(server, AGENT_TASKS, "team", picture)
    work = asyncio.get_running_loop().create_task(mirror.run())
    try:
        yield picture, mirror
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _shows(picture: _Picture, *names: str) -> None:
    await eventually_async(lambda: sorted(picture.now), lambda now: now == sorted(names))


async def test_B13_what_is_there_what_comes_and_what_goes_is_told() -> None:
    server = ApiServer(page=2)
    for name in ("a", "b", "c"):
        server.put(AGENT_TASKS, _task(name))
    server.put(AGENT_TASKS, _task("elsewhere", "other"))
    server.put(TOOLS, _task("tool"))
    async with _mirrored(server) as (picture, mirror):
        await _shows(picture, "a", "b", "c")
        await eventually_async(lambda: mirror.is_complete and mirror.is_current)
        server.put(AGENT_TASKS, _task("d"))
        server.remove(AGENT_TASKS, "team", "a")
        await _shows(picture, "b", "c", "d")
    assert server.asked("list", "agenttasks") == 1


async def test_B13_a_broken_watch_goes_on_where_it_was_without_another_list() -> None:
    server = ApiServer()
    async with _mirrored(server) as (picture, mirror):
        await eventually_async(lambda: server.watches == 1)
        changes: list[bool] = []
        mirror._on_change = lambda: changes.append(mirror.is_current)
        server.cut_watches()
        server.put(AGENT_TASKS, _task("a"))
        await _shows(picture, "a")
        await eventually_async(lambda: changes == [False, True])
    assert server.asked("list", "agenttasks") == 1


async def test_B13_where_the_api_server_has_forgotten_it_is_listed_again() -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, _task("old"))
    async with _mirrored(server) as (picture, _):
        await eventually_async(lambda: server.watches == 1)
        server.forgotten = 1000
        server._version = 1000
        server._history.clear()
        del server.objects["agenttasks", "team", "old"]  # nobody tells of it
        server.put(AGENT_TASKS, _task("new"))
        server._history.clear()
        server.cut_watches()
        await _shows(picture, "new")
        assert picture.lists == 2


async def test_B13_an_api_server_that_is_away_is_asked_until_it_is_back() -> None:
    server = ApiServer()
    away = True

    async def before(_verb: str, _plural: str, _name: str) -> None:
        if away:
            raise Unavailable("away")

    server.before = before
    async with _mirrored(server) as (picture, mirror):
        await eventually_async(lambda: server.asked("list", "agenttasks") >= 3)
        assert not mirror.is_complete
        away = False
        server.put(AGENT_TASKS, _task("a"))
        await _shows(picture, "a")
        assert mirror.is_complete


async def test_B13_one_object_that_cannot_be_taken_in_ends_no_watch() -> None:
    class Picky(_Picture):
        def put(self, body: Json) -> None:
            if body["metadata"]["name"].startswith("bad"):
                raise ValueError("nobody thought of this")
            super().put(body)

    server = ApiServer()
    server.put(AGENT_TASKS, _task("bad-before"))
    server.put(AGENT_TASKS, _task("good"))
    picture = Picky()
    mirror = Mirror(server, AGENT_TASKS, "team", picture)
    work = asyncio.get_running_loop().create_task(mirror.run())
    try:
        await _shows(picture, "good")
        await eventually_async(lambda: mirror.is_complete and mirror.is_current)
        server.put(AGENT_TASKS, _task("bad-later"))
        server.put(AGENT_TASKS, _task("better"))
        await _shows(picture, "better", "good")
        assert not work.done()
        assert server.asked("list", "agenttasks") == 1
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
