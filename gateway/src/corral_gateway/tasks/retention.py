"""Removes ended tasks whose time is over, with all that is kept of them, and artifacts of tasks that never were."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import SQLAlchemyError

from corral.artifacts.port import ArtifactError, ArtifactStore
from corral_gateway.budgets.stored import StoredBytes, forget_in
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import TaskRow

log = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
#: Removed at once, so that nobody waits long for the database.
_AT_ONCE = 100
#: Files come before their task; an upload that takes longer is refused by then.
_ORPHANS_AFTER = timedelta(hours=2)


class Retention:
    """Sweeps now and then; of one event loop."""

    def __init__(self, database: Database, store: ArtifactStore | None, stored: StoredBytes) -> None:
        self._database = database
        self._stored = stored
        self._store = store
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to sweep."""
        self._work = asyncio.get_running_loop().create_task(self._for_ever(), name="retention")

    async def close(self) -> None:
        """End."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def sweep(self, now: datetime) -> None:
        """Remove what may go now. A task's artifacts go first: what is left of a sweep that ends early, the next ends.

        Raises:
            ArtifactError: the store does not answer.
            SQLAlchemyError: the database does not.
        """
        while uids := await self._expired(now):
            for uid in uids:
                if self._store is not None:
                    await self._store.remove(uid)
            await self._database.transaction(partial(_remove, uids))
        if self._store is not None:
            kept = await self._store.tasks()
            for uid in set(kept) - await self._known(kept):
                if await self._store.is_older(uid, now - _ORPHANS_AFTER):
                    await self._store.remove(uid)
                    await self._stored.forget([uid])
            # Counted, and then the gateway ended before anything was kept.
            while uids := await self._stored.without_task(now - _ORPHANS_AFTER, _AT_ONCE):
                await self._stored.forget(uids)

    async def _expired(self, now: datetime) -> Sequence[str]:
        query = select(TaskRow.uid).where(TaskRow.expires_at <= now).limit(_AT_ONCE)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def _known(self, uids: Collection[str]) -> set[str]:
        known: set[str] = set()
        wanted = list(uids)
        async with self._database.reading() as session:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                known |= set(await session.scalars(select(TaskRow.uid).where(TaskRow.uid.in_(part))))
        return known

    async def _for_ever(self) -> None:
        while True:
            try:
                await self.sweep(datetime.now(UTC))
            except (ArtifactError, SQLAlchemyError) as error:
                log.warning("ended tasks could not be removed: %s; again soon", error)
            await asyncio.sleep(_EVERY_SECONDS)


def _remove(uids: Sequence[str], connection: Connection) -> None:
    connection.execute(delete(TaskRow).where(TaskRow.uid.in_(uids)))
    forget_in(connection, uids)
