"""Tasks on this machine: kept in the database, run by the library."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, tuple_, update
from sqlalchemy.exc import IntegrityError

from corral.api import AgentTask, AgentTaskStatus, Phase, Reason, phase_of, time_text
from corral.client import AsyncClient
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import TaskRow
from corral_gateway.tasks.intake import request_sha256
from corral_gateway.tasks.port import KeyUsedError, NoCapacityError, TaskFilter

log = logging.getLogger(__name__)

#: When a place may be free again, nobody can say; a default task may take half a minute.
_RETRY_AFTER_SECONDS = 5


@dataclass(slots=True)
class _Running:
    """A task of this process that has not ended."""

    caller: str
    work: "asyncio.Task[None] | None" = None
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class EmbeddedTasks:
    """Implements ``Tasks``."""

    def __init__(self, database: Database, client: AsyncClient, settings: Settings) -> None:
        self._database = database
        self._client = client
        self._places = asyncio.Semaphore(settings.concurrent_tasks)
        self._most = settings.concurrent_tasks + settings.waiting_tasks
        self._running: dict[str, _Running] = {}

    async def start(self) -> None:
        """Say of every task that an earlier process left unfinished how it ended: its sandbox went with it."""
        async with self._database.writing() as session:
            rows = await session.scalars(
                select(TaskRow).where(TaskRow.phase.in_([Phase.PENDING, Phase.RUNNING]))
            )
            for row in rows:
                task = _ended_with_the_gateway(AgentTask.model_validate(row.manifest))
                row.manifest, row.phase, row.reason = task.to_wire(), Phase.FAILED, Reason.SANDBOX_FAILED

    async def close(self) -> None:
        """Cancel what runs, and write how it ended."""
        for running in self._running.values():
            running.cancel.set()
        work = [running.work for running in self._running.values() if running.work is not None]
        await asyncio.gather(*work, return_exceptions=True)

    async def submit(self, task: AgentTask, caller: str) -> AgentTask:
        """Take a task in; see ``Tasks``."""
        made = await self._made_before(task, caller)
        if made is not None:
            return made
        if len(self._running) >= self._most:
            raise NoCapacityError(_RETRY_AFTER_SECONDS)
        uid = task.metadata.uid or ""
        running = self._running[uid] = _Running(caller)
        try:
            async with self._database.writing() as session:
                session.add(_row(task, caller))
        except BaseException as error:
            del self._running[uid]
            # The same key came twice at once, and the other one was faster.
            made = await self._made_before(task, caller) if isinstance(error, IntegrityError) else None
            if made is None:
                raise
            return made
        running.work = asyncio.get_running_loop().create_task(self._run(task, running), name=f"task {uid}")
        return task

    async def wait(self, uid: str, caller: str, seconds: float) -> AgentTask | None:
        """Wait for a task's end; see ``Tasks``."""
        running = self._running.get(uid)
        if running is not None and running.caller == caller:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await running.ended.wait()
        return await self.get(uid, caller)

    async def get(self, uid: str, caller: str) -> AgentTask | None:
        """Return a task; see ``Tasks``."""
        async with self._database.reading() as session:
            row = await session.get(TaskRow, uid)
        return _task(row.manifest) if row is not None and row.caller == caller else None

    async def find(self, caller: str, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks; see ``Tasks``."""
        query = select(TaskRow.manifest).where(TaskRow.caller == caller)
        for column, value in (
            (TaskRow.phase, wanted.phase),
            (TaskRow.tool, wanted.tool),
            (TaskRow.reason, wanted.reason),
        ):
            if value is not None:
                query = query.where(column == value)
        if wanted.after is not None:
            place = wanted.after.created_at, wanted.after.uid
            query = query.where(tuple_(TaskRow.created_at, TaskRow.uid) < place)
        query = query.order_by(TaskRow.created_at.desc(), TaskRow.uid.desc()).limit(wanted.limit)
        async with self._database.reading() as session:
            return [_task(manifest) for manifest in await session.scalars(query)]

    async def cancel(self, uid: str, caller: str) -> AgentTask | None:
        """Ask for a task's end; see ``Tasks``."""
        running = self._running.get(uid)
        if running is not None and running.caller == caller:
            running.cancel.set()
        return await self.get(uid, caller)

    async def _made_before(self, task: AgentTask, caller: str) -> AgentTask | None:
        """Return the task that an idempotency key has made already.

        Raises:
            KeyUsedError: for another request.
        """
        key = task.spec.idempotency_key
        if key is None:
            return None
        async with self._database.reading() as session:
            query = select(TaskRow).where(TaskRow.caller == caller, TaskRow.idempotency_key == key)
            row = await session.scalar(query)
        if row is None:
            return None
        if row.request_sha256 != request_sha256(task):
            raise KeyUsedError
        return _task(row.manifest)

    async def _run(self, task: AgentTask, running: _Running) -> None:
        uid = task.metadata.uid or ""
        try:
            async with self._places:
                await self._write(uid, Phase.RUNNING, None, None)
                ended = await self._client.run_task(task, cancel=running.cancel)
        # Whatever it was, the task has to say so; nothing of it runs any more.
        except Exception as error:
            log.exception("task %s could not be run", uid)
            ended = _failed(task, f"the gateway could not run it: {error}")
        try:
            await self._write(uid, phase_of(ended.reason or Reason.SANDBOX_FAILED), ended.reason, ended)
        finally:
            del self._running[uid]
            running.ended.set()

    async def _write(self, uid: str, phase: Phase, reason: Reason | None, task: AgentTask | None) -> None:
        values: dict[str, Any] = {"phase": phase, "reason": reason}
        if task is not None:
            values["manifest"] = task.to_wire()
        async with self._database.writing() as session:
            await session.execute(update(TaskRow).where(TaskRow.uid == uid).values(**values))


def _row(task: AgentTask, caller: str) -> TaskRow:
    return TaskRow(
        uid=task.metadata.uid,
        caller=caller,
        tool=task.spec.tool,
        phase=Phase.PENDING,
        reason=None,
        created_at=datetime.fromisoformat(task.metadata.creation_timestamp or ""),
        idempotency_key=task.spec.idempotency_key,
        request_sha256=request_sha256(task),
        manifest=task.to_wire(),
    )


def _task(manifest: dict[str, Any]) -> AgentTask:
    return AgentTask.model_validate(manifest)


def _ended_with_the_gateway(task: AgentTask) -> AgentTask:
    return _failed(task, "the gateway ended while the task waited or ran; its sandbox ended with it")


def _failed(task: AgentTask, message: str) -> AgentTask:
    status = AgentTaskStatus(
        phase=Phase.FAILED,
        reason=Reason.SANDBOX_FAILED,
        message=message,
        completion_time=time_text(datetime.now(UTC)),
    )
    return task.model_copy(update={"status": status})
