"""Writes down what becomes of tasks of this machine, as soon as the database takes it."""

import asyncio
import logging
from functools import cache
from typing import Any

from sqlalchemy import Connection, Update, bindparam, insert, update
from sqlalchemy.exc import SQLAlchemyError

from corral.api import AgentTask, Phase, Reason, phase_of
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import Base, EventRow, TaskRow
from corral_gateway.tasks.live import LiveTask
from corral_gateway.tasks.rows import event_values, expiry

log = logging.getLogger(__name__)

#: Events wait so long to be written, so that a burst of output is not a burst of writes: that nobody follows, ...
_KEEP_SECONDS = 0.1
#: ... and that somebody follows, who is shown nothing that is not written.
_FOLLOWED_KEEP_SECONDS = 0.01
#: While the gateway closes, the end of a task is written again so often; else for ever, so long apart: the disk may
#: be full, and what the task brought is nowhere else.
_END_WRITES, _END_PAUSE_SECONDS = 5, 0.5
# Made once, of plain tables: putting a statement together takes longer than running it.
_TASKS, _EVENTS = Base.metadata.tables[TaskRow.__tablename__], Base.metadata.tables[EventRow.__tablename__]
_ADD_EVENT = insert(_EVENTS)


@cache
def _changed(columns: frozenset[str]) -> Update:
    """Return what changes some columns of a task; its id is ``of``."""
    new: dict[str, Any] = {name: bindparam(name) for name in columns}
    return update(_TASKS).where(_TASKS.c.uid == bindparam("of")).values(new)


class Keeping:
    """Of one gateway."""

    def __init__(self, database: Database, retention_days: int) -> None:
        self._database = database
        self._retention_days = retention_days
        #: The gateway does not wait for ever any more.
        self.is_ending = False

    async def claim(self, uid: str) -> bool:
        """Write down that a task begins, before it does. False: somebody else has, so it does not begin here."""
        begins = update(TaskRow).where(TaskRow.uid == uid, TaskRow.phase == Phase.PENDING)
        begins = begins.values(phase=Phase.RUNNING)
        while True:
            try:
                return await self._database.transaction(
                    lambda connection: connection.execute(begins).rowcount > 0
                )
            except SQLAlchemyError:
                if self.is_ending:
                    return False  # it has not begun: the next start takes it over
                log.exception("that task %s begins could not be written; again soon", uid)
                await asyncio.sleep(_END_PAUSE_SECONDS)

    async def keep_for_ever(self, uid: str, live: LiveTask) -> None:
        """Write events and status down some at a time."""
        while True:
            changed = live.changed
            if live.kept == len(live.events) and not live.status_is_new:
                await changed.wait()
            await asyncio.sleep(_FOLLOWED_KEEP_SECONDS if live.readers else _KEEP_SECONDS)
            try:
                await self._write(uid, live, Phase.RUNNING)
            except SQLAlchemyError:
                log.exception("events of task %s could not be written; again soon", uid)

    async def write_end(self, uid: str, live: LiveTask, ended: AgentTask) -> None:
        """Write down what came of a task, as soon as the database takes it."""
        rest = _END_WRITES
        while True:
            try:
                await self._write(uid, live, phase_of(ended.reason or Reason.SANDBOX_FAILED), ended)
            except SQLAlchemyError:
                log.exception("the end of task %s could not be written; again soon", uid)
                rest -= self.is_ending
                if not rest:
                    raise
                await asyncio.sleep(_END_PAUSE_SECONDS)
            else:
                return

    async def _write(self, uid: str, live: LiveTask, phase: Phase, ended: AgentTask | None = None) -> None:
        """Write down how a task stands, and what the database has not of its events: both, or nothing."""
        async with live.writing:
            values: dict[str, Any] = {"phase": phase}
            if ended is not None:
                values |= {"reason": ended.reason, "manifest": ended.to_wire()}
                values["expires_at"] = expiry(ended, self._retention_days)
            elif live.status_is_new:
                live.status_is_new = False
                values["manifest"] = live.as_it_stands().to_wire()
            count = len(live.events)
            news = [event_values(uid, event) for event in live.events[live.kept : count]]

            def write(connection: Connection) -> None:
                connection.execute(_changed(frozenset(values)), {**values, "of": uid})
                if news:
                    connection.execute(_ADD_EVENT, news)

            await self._database.transaction(write)
            live.show(count)
