"""B15: files of callers whose tasks a cluster runs: the task that is made of a request has them, and no other."""

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

import pytest

from corral.api import AgentTask
from corral.artifacts.fsspec_store import FsspecStore
from corral.artifacts.names import input_name
from corral.artifacts.port import ArtifactError
from corral_gateway.audit.auditing import Auditing
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.identity.caller import Caller
from corral_gateway.life import Waiters
from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.cluster.tools import ClusterTools
from corral_gateway.tasks.intake import task_of, with_key
from corral_gateway.tasks.service import TaskService
from corral_gateway.tasks.wiring import Engine, cluster_engine
from eventually import eventually_async
from unit.gateway.cluster_server import TaskServer

CONTENT = b"0123456789abcdef" * 20_000
HASH = sha256(CONTENT).hexdigest()
FILE = {"path": "in", "artifact": f"sha256:{HASH}"}
ANN = Caller("ann", frozenset())


class _Recorder:
    """Hears decisions, and keeps none."""

    def note(self, _record: Any) -> None:
        pass


@asynccontextmanager
async def _service(server: TaskServer, url: str) -> AsyncIterator[tuple[TaskService, Engine]]:
    settings = Settings(_env_file=None, CORRAL_ARTIFACTS_URL=url, CORRAL_NAMESPACE="team")
    with TemporaryDirectory() as directory:
        database = Database(f"sqlite+aiosqlite:///{directory}/corral.db")
        await database.migrate()
        try:
            async with _service_with(
                server, settings, database, Budgets(settings, database, Metrics())
            ) as made:
                yield made
        finally:
            await database.close()


@asynccontextmanager
async def _service_with(
    server: TaskServer, settings: Settings, database: Database, budgets: Budgets
) -> AsyncIterator[tuple[TaskService, Engine]]:
    engine = cluster_engine(database, server, server, settings, [budgets], budgets=budgets)
    audit = Auditing(cast("Any", _Recorder()))
    guards = [*engine.guards, budgets]
    service = TaskService(engine.executor, engine.tools, guards, engine.artifacts, audit, waiters=Waiters())
    for part in engine.parts:
        await part.start()
    assert isinstance(engine.tools, ClusterTools)
    mirrors = engine.tools._mirrors.values()
    await eventually_async(lambda: all(mirror.is_complete for mirror in mirrors))
    try:
        yield service, engine
    finally:
        for part in reversed(engine.parts):
            await part.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FsspecStore]:
    store = FsspecStore(f"file://{tmp_path}/artifacts")
    yield store
    await store.close()


def _url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/artifacts"


def _asked(key: str | None = None) -> AgentTask:
    task = task_of({"tool": "shell", "arguments": {"command": "true"}, "files": [FILE]}, "ann")
    return task if key is None else with_key(task, key)


def _sent() -> Mapping[str, BinaryIO]:
    return {HASH: io.BytesIO(CONTENT)}


async def _kept(store: FsspecStore) -> list[str]:
    return list(await store.tasks())


async def test_B15_files_are_kept_under_the_uid_that_the_cluster_gave_and_nowhere_else(
    tmp_path: Path, store: FsspecStore
) -> None:
    async with _service(TaskServer(), _url(tmp_path)) as (service, _):
        asked = _asked()
        made = await service.submit(asked, ANN, _sent())
    assert made.metadata.uid != asked.metadata.uid
    assert await _kept(store) == [made.metadata.uid]
    assert await store.get(made.metadata.uid or "", input_name(HASH)) == CONTENT


async def test_B15_a_task_whose_gateway_died_before_it_had_its_files_has_them_when_it_is_sent_again(
    tmp_path: Path, store: FsspecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TaskServer()
    async with _service(server, _url(tmp_path)) as (service, engine):
        with monkeypatch.context() as patch:

            async def dies(*_arguments: Any) -> None:
                raise RuntimeError("the process ends here")

            patch.setattr(engine.artifacts, "hand_over", dies)
            with pytest.raises(RuntimeError):
                await service.submit(_asked("once"), ANN, _sent())
    async with _service(server, _url(tmp_path)) as (service, _):
        made = await service.submit(_asked("once"), ANN, _sent())
        assert await store.get(made.metadata.uid or "", input_name(HASH)) == CONTENT
    assert server.asked("create", "agenttasks") == 1


async def test_B15_a_store_that_fails_is_told_before_there_is_a_task(
    tmp_path: Path, store: FsspecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TaskServer()
    async with _service(server, _url(tmp_path)) as (service, engine):

        async def fails(*_arguments: Any) -> None:
            raise ArtifactError("down")

        monkeypatch.setattr(engine.artifacts, "take_in", fails)
        with pytest.raises(ProblemError) as refused:
            await service.submit(_asked(), ANN, _sent())
    assert (refused.value.reason, refused.value.status) == ("ArtifactStoreFailed", 503)
    assert server.objects == {}
    assert await _kept(store) == []


async def test_B15_a_task_that_cannot_be_given_its_files_is_ended_and_the_caller_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TaskServer()
    async with _service(server, _url(tmp_path)) as (service, engine):

        async def fails(*_arguments: Any) -> None:
            raise ArtifactError("down")

        monkeypatch.setattr(engine.artifacts, "hand_over", fails)
        with pytest.raises(ProblemError) as refused:
            await service.submit(_asked(), ANN, _sent())
    assert refused.value.reason == "ArtifactStoreFailed"
    (body,) = server.objects.values()
    assert body["spec"]["cancel"] is True


@pytest.mark.parametrize("url", ["", "artifacts"], ids=["none", "a directory of its own"])
async def test_B15_without_a_store_that_the_operator_sees_large_files_are_refused(url: str) -> None:
    server = TaskServer()
    async with _service(server, url) as (service, _):
        with pytest.raises(ProblemError) as refused:
            await service.submit(_asked(), ANN, _sent())
    assert refused.value.reason == "NoArtifactStore"
    assert server.objects == {}
