"""Tasks on this machine: kept in the database, run by the library."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from structlog.contextvars import bind_contextvars

from corral.api import AgentTask, AgentTaskStatus, Frame, Phase, Reason, phase_of, time_text
from corral.client import AsyncClient
from corral_gateway.policy import PolicyOf
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import EventRow, TaskRow
from corral_gateway.tasks.events import Event, of_end, of_frame
from corral_gateway.tasks.host_access import CallerSecrets, in_workspace
from corral_gateway.tasks.intake import request_sha256
from corral_gateway.tasks.places import Places, Ticket
from corral_gateway.tasks.port import KeyUsedError, TaskFilter, TaskObserver

log = logging.getLogger(__name__)

#: So much of a task's events a crash of the process may lose.
_KEEP_SECONDS = 0.1


@dataclass(slots=True)
class _Running:
    """A task of this process that has not ended."""

    caller: str
    ticket: Ticket
    work: "asyncio.Task[None] | None" = None
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    #: All of them: they are no more than what its tools may print.
    events: list[Event] = field(default_factory=list)
    #: How many of them the database has.
    kept: int = 0
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set, and replaced, with each event.
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event, and wake who reads."""
        self.events.append(Event(len(self.events) + 1, kind, data))
        self.changed.set()
        self.changed = asyncio.Event()

    def hear(self, execution: str, frame: Frame) -> None:
        """Take in what a runner says."""
        event = of_frame(execution, frame)
        if event is not None:
            self.tell(*event)


class EmbeddedTasks:
    """Implements ``Executor``."""

    def __init__(
        self,
        database: Database,
        client: AsyncClient,
        settings: Settings,
        observers: Sequence[TaskObserver],
        policy_of: PolicyOf,
    ) -> None:
        self._database = database
        self._observers = tuple(observers)
        self._workspace_root = settings.workspace_root
        self._secrets_directory = settings.secrets_directory
        self._policy_of = policy_of
        self._client = client
        #: Whose turn it is, and how many wait.
        self.places = Places(
            settings.concurrent_tasks, settings.waiting_tasks, settings.most_waiting_of_a_caller
        )
        self._running: dict[str, _Running] = {}

    @property
    def active(self) -> int:
        """How many tasks have not ended."""
        return len(self._running)

    async def start(self) -> None:
        """Say of every task that an earlier process left unfinished how it ended: its sandbox went with it."""
        async with self._database.writing() as session:
            rows = await session.scalars(
                select(TaskRow).where(TaskRow.phase.in_([Phase.PENDING, Phase.RUNNING]))
            )
            for row in rows:
                task = _ended_with_the_gateway(AgentTask.model_validate(row.manifest))
                row.manifest, row.phase, row.reason = task.to_wire(), Phase.FAILED, Reason.SANDBOX_FAILED
                last = await session.scalar(
                    select(func.max(EventRow.seq)).where(EventRow.task_uid == row.uid)
                )
                session.add(_event_row(row.uid, Event((last or 0) + 1, *of_end(task))))

    async def close(self) -> None:
        """Cancel what runs, and write how it ended."""
        for running in self._running.values():
            self._cancel(running)
        work = [running.work for running in self._running.values() if running.work is not None]
        await asyncio.gather(*work, return_exceptions=True)

    async def made_before(self, task: AgentTask, caller: str) -> AgentTask | None:
        """Return the task that a key has made already; see ``Executor``."""
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

    async def submit(self, task: AgentTask, caller: str) -> AgentTask:
        """Take a task in; see ``Executor``."""
        ticket = self.places.join(caller, task.spec.priority)
        uid = task.metadata.uid or ""
        running = self._running[uid] = _Running(caller, ticket)
        try:
            async with self._database.writing() as session:
                session.add(_row(task, caller))
        except BaseException as error:
            self.places.give_back(ticket)
            del self._running[uid]
            # The same key came twice at once, and the other one was faster.
            made = await self.made_before(task, caller) if isinstance(error, IntegrityError) else None
            if made is None:
                raise
            return made
        running.work = asyncio.get_running_loop().create_task(self._run(task, running), name=f"task {uid}")
        return task

    async def wait(self, uid: str, caller: str, seconds: float) -> AgentTask | None:
        """Wait for a task's end; see ``Executor``."""
        running = self._running.get(uid)
        if running is not None and running.caller == caller:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await running.ended.wait()
        return await self.get(uid, caller)

    async def get(self, uid: str, caller: str) -> AgentTask | None:
        """Return a task; see ``Executor``."""
        async with self._database.reading() as session:
            row = await session.get(TaskRow, uid)
        return _task(row.manifest) if row is not None and row.caller == caller else None

    async def find(self, caller: str, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks; see ``Executor``."""
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
        """Ask for a task's end; see ``Executor``."""
        running = self._running.get(uid)
        if running is not None and running.caller == caller:
            self._cancel(running)
        return await self.get(uid, caller)

    async def events(self, uid: str, caller: str, after: int) -> AsyncIterator[Event] | None:
        """Return a task's events; see ``Executor``."""
        running = self._running.get(uid)
        if running is not None and running.caller != caller:
            return None
        if running is None and await self.get(uid, caller) is None:
            return None
        return self._follow(uid, running, after)

    async def _follow(self, uid: str, running: _Running | None, sent: int) -> AsyncIterator[Event]:
        while running is not None:
            changed, ended = running.changed, running.ended.is_set()
            for event in running.events[sent:]:
                yield event
                sent = event.seq
            if ended:
                return
            if changed is running.changed:
                await changed.wait()
        query = select(EventRow).where(EventRow.task_uid == uid, EventRow.seq > sent).order_by(EventRow.seq)
        async with self._database.reading() as session:
            rows = list(await session.scalars(query))
        for row in rows:
            yield Event(row.seq, row.kind, row.data)

    def _cancel(self, running: _Running) -> None:
        running.cancel.set()
        self.places.cancel(running.ticket)

    async def _run(self, task: AgentTask, running: _Running) -> None:
        uid, began = task.metadata.uid or "", time.perf_counter()
        bind_contextvars(task=uid)  # in every line that is logged about it
        keeping = asyncio.get_running_loop().create_task(self._keep_for_ever(uid, running))
        try:
            async with self.places.held(running.ticket):
                await self._write(uid, running, Phase.RUNNING)
                ended = await self._client.run_task(
                    in_workspace(task, self._workspace_root),
                    on_frame=running.hear,
                    cancel=running.cancel,
                    secrets=CallerSecrets(self._secrets_directory, running.caller),
                    policy=self._policy_of(uid),
                )
                ended = ended.model_copy(
                    update={"spec": task.spec}
                )  # where it worked is not the caller's to know
        # Whatever it was, the task has to say so; nothing of it runs any more.
        except Exception:
            log.exception("task %s could not be run", uid)
            ended = _failed(task, "the gateway could not run it; its log says why, under the task's id")
        async with running.writing:  # a transaction that is cancelled half-way can keep the database locked
            keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        running.tell(*of_end(ended))
        try:
            await self._write(uid, running, phase_of(ended.reason or Reason.SANDBOX_FAILED), ended)
        finally:
            del self._running[uid]
            for observer in self._observers:
                observer.ended(ended, running.caller, time.perf_counter() - began)
            running.ended.set()
            running.changed.set()

    async def _keep_for_ever(self, uid: str, running: _Running) -> None:
        """Write events down some at a time, so that a burst of output is not a burst of writes."""
        while True:
            if running.kept == len(running.events):
                await running.changed.wait()
            await asyncio.sleep(_KEEP_SECONDS)
            try:
                await self._write(uid, running, Phase.RUNNING)
            except SQLAlchemyError:
                log.exception("events of task %s could not be written; again soon", uid)

    async def _write(self, uid: str, running: _Running, phase: Phase, ended: AgentTask | None = None) -> None:
        """Write down how a task stands, and what the database has not of its events: both, or nothing."""
        values: dict[str, Any] = {"phase": phase}
        if ended is not None:
            values |= {"reason": ended.reason, "manifest": ended.to_wire()}
        async with running.writing:
            count = len(running.events)
            async with self._database.writing() as session:
                await session.execute(update(TaskRow).where(TaskRow.uid == uid).values(**values))
                session.add_all(_event_row(uid, event) for event in running.events[running.kept : count])
            running.kept = count


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


def _event_row(uid: str, event: Event) -> EventRow:
    return EventRow(task_uid=uid, seq=event.seq, kind=event.kind, data=event.data)


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
