"""Tasks that other gateways on the same database run: what becomes of them, and word to their owners to cancel them.

The database is asked twice a second about all that anybody here waits for, only while somebody does, and for what this
gateway's own tasks others were asked to cancel.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import func, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from corral_gateway.storage.database import Database
from corral_gateway.storage.models import EventRow, TaskRow

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class _Watched:
    readers: int = 0
    #: Phase and last event, as they were looked up last.
    state: tuple[str, int] | None = None
    #: Set, and replaced, with each change.
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Elsewhere:
    """What one gateway knows of the others' tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched: dict[str, _Watched] = {}
        self._work: list[asyncio.Task[None]] = []
        self._somebody = asyncio.Event()

    def start(self, owner: str, to_cancel: Callable[[Sequence[str]], None]) -> None:
        """Begin to look; ``to_cancel`` is told which of this gateway's own tasks others were asked to cancel."""
        if self._database.file is not None:
            return  # nobody else runs tasks in a file
        loop = asyncio.get_running_loop()
        self._work = [
            loop.create_task(self._look_for_ever(), name="tasks of other gateways"),
            loop.create_task(
                self._cancel_for_ever(owner, to_cancel), name="tasks cancelled at other gateways"
            ),
        ]

    async def close(self) -> None:
        """Look no more."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def cancel(self, uid: str) -> None:
        """Ask for the end of a task, whoever runs it, now or after its next start."""
        asked = (
            update(TaskRow).where(TaskRow.uid == uid, TaskRow.reason.is_(None)).values(cancel_requested=True)
        )
        await self._database.transaction(lambda connection: connection.execute(asked))

    @asynccontextmanager
    async def watching(self, uid: str) -> AsyncIterator[Callable[[], asyncio.Event]]:
        """Yield what gives the event that a task's next change sets; to be asked for before the task is looked at."""
        watched = self._watched.setdefault(uid, _Watched())
        watched.readers += 1
        self._somebody.set()
        try:
            yield lambda: watched.changed
        finally:
            watched.readers -= 1
            if not watched.readers:
                del self._watched[uid]

    async def _look_for_ever(self) -> None:
        while True:
            await self._somebody.wait()
            self._somebody.clear()
            while self._watched:
                try:
                    await self._look()
                except SQLAlchemyError:
                    log.exception("tasks of other gateways could not be looked at; again soon")
                await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        last = select(func.max(EventRow.seq)).where(EventRow.task_uid == TaskRow.uid).scalar_subquery()
        query = select(TaskRow.uid, TaskRow.phase, func.coalesce(last, 0)).where(
            TaskRow.uid.in_(self._watched)
        )
        async with self._database.reading() as session:
            found = {uid: (phase, seq) for uid, phase, seq in await session.execute(query)}
        for uid, watched in self._watched.items():
            state = found.get(uid, ("", 0))  # it may have been removed
            if state != watched.state:
                watched.state = state
                changed, watched.changed = watched.changed, asyncio.Event()
                changed.set()

    async def _cancel_for_ever(self, owner: str, to_cancel: Callable[[Sequence[str]], None]) -> None:
        # As the index has it: usually it is empty.
        asked = TaskRow.cancel_requested == true(), TaskRow.reason.is_(None), TaskRow.owner == owner
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                async with self._database.reading() as session:
                    to_cancel(list(await session.scalars(select(TaskRow.uid).where(*asked))))
            except SQLAlchemyError:
                log.exception("what other gateways were asked to cancel could not be looked up; again soon")
