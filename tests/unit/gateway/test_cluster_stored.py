"""B4: what callers keep in the object store of a cluster: counted by gateways, though the operator writes to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from corral.api import AgentTask
from corral.cluster.port import AGENT_TASKS, ObjectKey
from corral_gateway.budgets.budget import Used
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.identity.caller import Caller
from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.cluster.kept import KeptInCluster
from corral_gateway.tasks.intake import task_of
from corral_gateway.tasks.service import TaskService
from corral_gateway.tasks.wiring import Engine
from eventually import eventually_async
from unit.gateway.cluster_server import TaskServer
from unit.gateway.test_cluster_artifacts import ANN, CONTENT, _asked, _sent, _service_with

SIZE = len(CONTENT)
LEFT: dict[str, Any] = {
    "executions": [
        {
            "name": "main",
            "tool": "shell",
            "reason": "Completed",
            "phase": "Succeeded",
            "files": [{"path": "large", "size": SIZE - 7, "stored": True}, {"path": "small", "size": 5}],
            "stored": [{"name": "stdout", "size": 7, "sha256": "0" * 64}],
        }
    ]
}


class Gateways:
    """Several, with one database and one cluster."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        url = f"file://{directory}/artifacts"
        self.settings = Settings(
            _env_file=None, CORRAL_ARTIFACTS_URL=url, CORRAL_NAMESPACE="team", **settings
        )
        self.server = TaskServer()
        self.database = Database(f"sqlite+aiosqlite:///{directory / 'corral.db'}")
        self.open = AsyncExitStack()

    async def one(self) -> tuple[TaskService, Engine, Budgets]:
        """Begin one."""
        budgets = Budgets(self.settings, self.database, Metrics())
        service, engine = await self.open.enter_async_context(
            _service_with(self.server, self.settings, self.database, budgets)
        )
        return service, engine, budgets

    async def keeps(self, caller: Caller = ANN) -> int:
        """Return how much is counted of a caller."""
        return (await Budgets(self.settings, self.database, Metrics()).used(caller)).stored_bytes


@asynccontextmanager
async def gateways(directory: Path, **settings: Any) -> AsyncIterator[Gateways]:
    made = Gateways(directory, **settings)
    await made.database.migrate()
    try:
        async with made.open:
            yield made
    finally:
        await made.database.close()


def _plain() -> AgentTask:
    return task_of({"tool": "shell", "arguments": {"command": "true"}}, "ann")


async def _refused(service: TaskService, task: AgentTask, **contents: Any) -> str:
    with pytest.raises(ProblemError) as refused:
        await service.submit(task, ANN, **contents)
    assert refused.value.status == 429
    return f"{refused.value.reason}: {refused.value.detail}"


async def test_B4_files_that_come_with_tasks_of_a_cluster_are_counted_and_refused(tmp_path: Path) -> None:
    async with gateways(tmp_path, CORRAL_BUDGET_STORED_BYTES=2 * SIZE - 1) as those:
        service, engine, _ = await those.one()
        made = await service.submit(_asked(), ANN, _sent())
        assert await those.keeps() == SIZE
        told = await _refused(service, _asked(), contents=_sent())
        assert told.startswith(f"BudgetExhausted: storedBytes: {SIZE} of {2 * SIZE - 1} are used")
        assert await those.keeps() == SIZE
        await service.submit(_asked(), Caller("bob", frozenset()), _sent())
        # What is deleted in the cluster is given back, and what is there is not.
        (kept,) = (guard for guard in engine.guards if isinstance(guard, KeptInCluster))
        later = datetime.now(UTC) + timedelta(hours=3)
        await kept.sweep(later)
        assert await those.keeps() == SIZE
        assert await service.get(made.metadata.uid or "", ANN) is not None
        (name,) = (
            one["metadata"]["name"]
            for one in those.server.objects.values()
            if one["metadata"]["uid"] == made.metadata.uid
        )
        await those.server.delete(AGENT_TASKS, ObjectKey("team", name, made.metadata.uid or ""))
        await eventually_async(lambda: not engine.executor.knows(made.metadata.uid or ""))  # type: ignore[attr-defined]
        await kept.sweep(datetime.now(UTC))
        assert await those.keeps() == SIZE, "an upload may be before its task"
        await kept.sweep(later)
        assert await those.keeps() == 0
        assert await those.keeps(Caller("bob", frozenset())) == SIZE


async def test_B4_files_of_a_request_that_comes_again_before_its_task_has_them_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateways(tmp_path) as those:
        service, engine, _ = await those.one()
        another, _, _ = await those.one()
        hand_over, again = engine.artifacts.hand_over, []

        async def late(*given: Any) -> None:
            again.append(await another.submit(_asked("once"), ANN, _sent()))
            await hand_over(*given)

        monkeypatch.setattr(engine.artifacts, "hand_over", late)
        made = await service.submit(_asked("once"), ANN, _sent())
        assert [one.metadata.uid for one in again] == [made.metadata.uid]
        assert await those.keeps() == SIZE


async def test_B4_what_the_operator_keeps_is_counted_once_by_however_many_gateways(tmp_path: Path) -> None:
    async with gateways(tmp_path, CORRAL_BUDGET_STORED_BYTES=SIZE - 1) as those:
        service, _, _ = await those.one()
        await those.one()
        made = await service.submit(_plain(), ANN)
        uid = made.metadata.uid or ""
        those.server.end(uid, **LEFT)

        async with asyncio.timeout(60):
            while await those.keeps() != SIZE:
                await asyncio.sleep(0.01)
        # One that starts later is told of it again.
        third, _, _ = await those.one()
        for each in (service, third):
            told = await _refused(each, _plain())
            assert told.startswith(f"BudgetExhausted: storedBytes: {SIZE} of {SIZE - 1} are used")
        await service.submit(_plain(), Caller("bob", frozenset()))
        assert await those.keeps() == SIZE
        assert await service.remove_files(uid, ANN)
        assert await those.keeps() == 0
        fourth, _, _ = await those.one()
        await fourth.submit(_plain(), ANN)
        assert await those.keeps() == 0


async def test_B4_what_a_task_of_a_cluster_held_is_free_again_at_its_end(tmp_path: Path) -> None:
    async with gateways(tmp_path, CORRAL_BUDGET_CONCURRENT_TASKS=1) as those:
        service, _, budgets = await those.one()
        for _ in range(3):
            made = await service.submit(_plain(), ANN)
            assert (await budgets.used(ANN)).concurrent_tasks == 1
            assert (await _refused(service, _plain())).startswith("BudgetExhausted: concurrentTasks")
            those.server.end(made.metadata.uid)
            await service.wait_to_end(made.metadata.uid or "", ANN)
        assert await budgets.used(ANN) == Used(0, 0, 0.0, 0)
