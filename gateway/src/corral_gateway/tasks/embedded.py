"""Tasks on this machine: kept in the database, run by the library."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from sqlalchemy import insert, select, tuple_
from sqlalchemy.exc import IntegrityError
from structlog.contextvars import bind_contextvars

from corral.api import AgentTask, Phase
from corral.client import AsyncClient, CheckArguments
from corral_gateway.policy import PolicyOf
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.storage.instance import instance_of
from corral_gateway.storage.models import Base, EventRow, TaskRow
from corral_gateway.tasks.artifacts import TaskArtifacts
from corral_gateway.tasks.elsewhere import Elsewhere
from corral_gateway.tasks.events import Event, of_end
from corral_gateway.tasks.host_access import CallerSecrets, in_workspace
from corral_gateway.tasks.intake import request_sha256
from corral_gateway.tasks.keeping import Keeping
from corral_gateway.tasks.left_behind import failed, take_over
from corral_gateway.tasks.live import LiveTask, as_it_waits
from corral_gateway.tasks.observing import Observers
from corral_gateway.tasks.places import Places
from corral_gateway.tasks.port import KeyUsedError, TaskFilter, TaskObserver
from corral_gateway.tasks.rows import task_of_row, task_values

log = logging.getLogger(__name__)

#: Rows of events that are read at once, of up to 64 KiB each: who reads slowly holds them all.
_PAGE = 32
#: The largest number that PostgreSQL takes for an event's; no task has so many.
_MOST_EVENTS = 2**31 - 1
#: What is being taken in when the gateway ends is, within so long.
_TAKING_IN_SECONDS = 0.05
# Made once, of the plain table: putting a statement together takes longer than running it.
_ADD_TASK = insert(Base.metadata.tables[TaskRow.__tablename__])


class EmbeddedTasks:
    """Implements ``Executor``."""

    def __init__(
        self,
        database: Database,
        client: AsyncClient,
        settings: Settings,
        observers: Sequence[TaskObserver],
        *,
        policy_of: PolicyOf,
        artifacts: TaskArtifacts,
        check: CheckArguments,
    ) -> None:
        self._database = database
        self._observers = Observers(observers)
        #: Nothing begins any more.
        self._is_handed_over = False
        self._owner = instance_of(settings.data_directory)
        self._workspace_root = settings.workspace_root
        self._secrets_directory = settings.secrets_directory
        self._policy_of = policy_of
        self._client = client
        self._artifacts = artifacts
        self._check = check
        self._retention_days = settings.task_retention_days
        #: Whose turn it is, and how many wait.
        self.places = Places(
            settings.concurrent_tasks, settings.waiting_tasks, settings.most_waiting_of_a_caller
        )
        self._running: dict[str, LiveTask] = {}
        self._keeping = Keeping(database, settings.task_retention_days)
        self._elsewhere = Elsewhere(database)

    @property
    def active(self) -> int:
        """How many tasks have not ended."""
        return len(self._running)

    async def start(self) -> None:
        """Go on with what an earlier process was told: run what had not begun, say how the rest ended."""
        self.places.hold_back()  # whose turn it is, is known when all are back in line
        for row in await take_over(self._database, self._owner, self._retention_days):
            task = task_of_row(row)
            ticket = self.places.join(row.caller, task.spec.priority, promised=True)
            live = self._running[row.uid] = LiveTask(task, row.caller, ticket)
            self._begin(live)
            if row.cancel_requested:
                self._cancel(live)
        self.places.go_on()
        self._elsewhere.start(self._owner, self._cancel_all)

    def hand_over(self) -> None:
        """Leave what has not begun to the next start, in the order in which it came; see ``Executor``."""
        self._is_handed_over = True
        self.places.hold_back()
        for live in self._running.values():
            self._leave_waiting(live)

    async def idle(self) -> None:
        """Return when nothing runs here; see ``Executor``."""
        while self._running:
            work = [live.work for live in self._running.values() if live.work is not None]
            # What is being taken in this moment has none yet.
            await (asyncio.wait(work) if work else asyncio.sleep(_TAKING_IN_SECONDS))

    async def cut_off(self) -> None:
        """Cancel what runs, and write how it ended; see ``Executor``."""
        self._keeping.is_ending = True
        for live in self._running.values():
            self._cancel(live)
        work = [live.work for live in self._running.values() if live.work is not None]
        await asyncio.gather(*work, return_exceptions=True)

    async def close(self) -> None:
        """Cancel what runs, and write how it ended. What had not begun is left to the next start."""
        self.hand_over()
        await self.cut_off()
        await self._elsewhere.close()

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
        return self._as_it_stands(row)

    async def submit(self, task: AgentTask, caller: str) -> AgentTask:
        """Take a task in; see ``Executor``."""
        ticket = self.places.join(caller, task.spec.priority)
        uid = task.metadata.uid or ""
        live = self._running[uid] = LiveTask(task, caller, ticket)
        if self._is_handed_over:
            self._leave_waiting(live)
        # With a place at once, and nobody who could ask again for what a crash leaves behind, one write says both.
        live.says_running = ticket.turn.done() and not live.is_left and task.spec.idempotency_key is None
        values = task_values(task, caller, self._owner, Phase.RUNNING if live.says_running else Phase.PENDING)
        try:
            await self._database.transaction(lambda connection: connection.execute(_ADD_TASK, values))
        except BaseException as error:
            self.places.give_back(ticket)
            del self._running[uid]
            # The same key came twice at once, and the other one was faster.
            made = await self.made_before(task, caller) if isinstance(error, IntegrityError) else None
            if made is None:
                raise
            return made
        self._begin(live)
        return task

    async def wait(self, uid: str, caller: str, seconds: float) -> AgentTask | None:
        """Wait for a task's end; see ``Executor``."""
        live = self._running.get(uid)
        if live is not None and live.caller == caller:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await live.ended.wait()
                    return live.as_it_stands()
        elif live is None and await self._runs_elsewhere(uid, caller):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), self._elsewhere.watching(uid) as change:
                    while True:
                        changed = change()
                        if not await self._runs_elsewhere(uid, caller):
                            break
                        await changed.wait()
        return await self.get(uid, caller)

    async def get(self, uid: str, caller: str) -> AgentTask | None:
        """Return a task; see ``Executor``."""
        live = self._running.get(uid)
        if live is not None:
            return live.as_it_stands() if live.caller == caller else None
        async with self._database.reading() as session:
            row = await session.get(TaskRow, uid)
        return self._as_it_stands(row) if row is not None and row.caller == caller else None

    async def submitted(self, uid: str, caller: str) -> AgentTask | None:
        """Return the task that was let in under an id; see ``Executor``. It keeps the id."""
        return await self.get(uid, caller)

    async def find(self, caller: str, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks; see ``Executor``."""
        query = select(TaskRow).where(TaskRow.caller == caller)
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
            return [self._as_it_stands(row) for row in await session.scalars(query)]

    async def cancel(self, uid: str, caller: str) -> AgentTask | None:
        """Ask for a task's end; see ``Executor``."""
        live = self._running.get(uid)
        if live is not None and live.caller == caller:
            self._cancel(live)
        found = await self.get(uid, caller)
        if live is None and found is not None and found.reason is None:
            await self._elsewhere.cancel(uid)
        return found

    async def events(self, uid: str, caller: str, after: int) -> AsyncGenerator[Event] | None:
        """Return a task's events; see ``Executor``."""
        if await self.get(uid, caller) is None:
            return None
        live, after = self._running.get(uid), min(after, _MOST_EVENTS)
        if live is None and await self._runs_elsewhere(uid, caller):
            return self._follow_elsewhere(uid, caller, after)
        return self._follow(uid, live, after)

    async def _follow(self, uid: str, live: LiveTask | None, sent: int) -> AsyncGenerator[Event]:
        if live is not None:
            live.readers += 1
            try:
                while not live.ended.is_set():
                    told = live.told
                    for event in live.events[sent : live.kept]:
                        yield event
                        sent = event.seq
                    if told is live.told:
                        await told.wait()
            finally:
                live.readers -= 1
            live = None  # one who reads slowly holds nothing of an ended task but a page of it
        while True:
            query = select(EventRow).where(EventRow.task_uid == uid, EventRow.seq > sent)
            async with self._database.reading() as session:
                rows = list(await session.scalars(query.order_by(EventRow.seq).limit(_PAGE)))
            for row in rows:
                yield Event(row.seq, row.kind, row.data)
                sent = row.seq
            if len(rows) < _PAGE:
                return

    async def _follow_elsewhere(self, uid: str, caller: str, sent: int) -> AsyncGenerator[Event]:
        async with self._elsewhere.watching(uid) as change:
            while True:
                changed = change()
                # Before its events: the last one comes with its end.
                goes_on = await self._runs_elsewhere(uid, caller)
                async with aclosing(self._follow(uid, None, sent)) as events:
                    async for event in events:
                        yield event
                        sent = event.seq
                if not goes_on:
                    return
                await changed.wait()

    async def _runs_elsewhere(self, uid: str, caller: str) -> bool:
        """Whether another gateway runs a task, or will."""
        row = TaskRow.uid == uid, TaskRow.caller == caller, TaskRow.owner != self._owner
        query = select(TaskRow.uid).where(*row, TaskRow.reason.is_(None))
        async with self._database.reading() as session:
            return await session.scalar(query) is not None

    def _cancel_all(self, uids: Sequence[str]) -> None:
        for uid in uids:
            live = self._running.get(uid)
            if live is not None:
                self._cancel(live)

    def _leave_waiting(self, live: LiveTask) -> None:
        """Let a task that waits go without its place; one that has its place goes on."""
        live.is_left = not live.cancel.is_set()
        self.places.cancel(live.ticket)

    def _cancel(self, live: LiveTask) -> None:
        live.cancel.set()
        self.places.cancel(live.ticket)

    def _as_it_stands(self, row: TaskRow) -> AgentTask:
        live = self._running.get(row.uid)
        return as_it_waits(task_of_row(row)) if live is None else live.as_it_stands()

    def _begin(self, live: LiveTask) -> None:
        name = f"task {live.task.metadata.uid}"
        live.work = asyncio.get_running_loop().create_task(self._run(live), name=name)

    async def _run(self, live: LiveTask) -> None:
        task, uid, began = live.task, live.task.metadata.uid or "", time.perf_counter()
        bind_contextvars(task=uid)  # in every line that is logged about it
        keeping = asyncio.get_running_loop().create_task(self._keeping.keep_for_ever(uid, live))
        try:
            async with self.places.held(live.ticket):
                if not live.says_running and (live.is_left or not await self._keeping.claim(uid)):
                    self._leave(uid, live)
                    return
                ended = await self._run_on(task, live)
        # Whatever it was, the task has to say so; nothing of it runs any more.
        except Exception:
            log.exception("task %s could not be run", uid)
            ended = failed(
                live.as_it_stands(), "the gateway could not run it; its log says why, under the task's id"
            )
        finally:
            async with live.writing:  # a transaction that is cancelled half-way can keep the database locked
                keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        live.tell(*of_end(ended))
        try:
            await self._keeping.write_end(uid, live, ended)
        finally:
            live.task, live.status = ended, ended.status
            del self._running[uid]
            self._observers.ended(ended, live.caller, time.perf_counter() - began)
            live.ended.set()
            live.show(live.kept)

    def _leave(self, uid: str, live: LiveTask) -> None:
        """Let a task go that has not begun; the next start takes it over."""
        del self._running[uid]
        live.ended.set()
        live.show(live.kept)

    async def _run_on(self, task: AgentTask, live: LiveTask) -> AgentTask:
        """Run a task that has its place; return it as it is written down."""
        ended = await self._client.run_task(
            in_workspace(task, self._workspace_root),
            on_frame=live.hear,
            on_file=live.keep_file,
            on_status=live.stand,
            read_file=self._artifacts.reader(task),
            cancel=live.cancel,
            secrets=CallerSecrets(self._secrets_directory, live.caller),
            policy=self._policy_of(task.metadata.uid or ""),
            check=self._check,
        )
        # Where it worked is not the caller's to know.
        return await self._artifacts.keep(
            ended.model_copy(update={"spec": task.spec}), live.caller, live.files
        )
