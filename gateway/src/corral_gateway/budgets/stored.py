"""What callers keep in the artifact store, counted in the database: nobody lists the store to know it.

A row for each task of which something is kept, and their sum for each caller, changed together. So it survives
restarts, and gateways on one PostgreSQL share it.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Insert, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from corral_gateway.storage.database import Database
from corral_gateway.storage.models import StoredOfCallerRow, StoredOfTaskRow, TaskRow

#: Before the id of a task, without its hyphens: as long as an id.
_LEFT = "left"


class NoRoomError(Exception):
    """A caller keeps too much to keep this, too. Nothing was counted."""

    def __init__(self, used_bytes: int, limit_bytes: int, wanted_bytes: int) -> None:
        self.used_bytes = used_bytes
        self.limit_bytes = limit_bytes
        self.wanted_bytes = wanted_bytes
        super().__init__(
            f"storedBytes: {used_bytes} of {limit_bytes} are used, and this would take {wanted_bytes} more"
        )


class StoredBytes:
    """The counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, uid: str, caller: str, size: int, limit: int | None, now: datetime) -> None:
        """Count bytes of a task before they are kept.

        Args:
            uid: of the task.
            caller: whose it is.
            size: bytes that come to what is kept of it already.
            limit: bytes that the caller may keep; None: any number.
            now: from then on who looks for what nobody removed may find it.

        Raises:
            NoRoomError: it would be more than the caller may keep.
        """

        def taken(connection: Connection) -> None:
            # This locks the caller's row: of two that come at once, to whichever gateway, the second sees the first.
            total = connection.execute(_add_to_caller(connection, caller, size)).scalar_one()
            if limit is not None and total > limit:
                raise NoRoomError(total - size, limit, size)
            connection.execute(_add_to_task(connection, uid, caller, size, now))

        await self._database.transaction(taken)

    async def give_back(self, uid: str, size: int) -> None:
        """Count so many bytes of a task no more: they were not kept after all."""

        def given_back(connection: Connection) -> None:
            less = update(StoredOfTaskRow).where(StoredOfTaskRow.task_uid == uid)
            less = less.values(bytes=StoredOfTaskRow.bytes - size)
            caller = connection.execute(less.returning(StoredOfTaskRow.caller)).scalar_one_or_none()
            if caller is not None:
                connection.execute(_add_to_caller(connection, caller, -size))

        await self._database.transaction(given_back)

    async def note(self, uid: str, caller: str, size: int, now: datetime) -> None:
        """Count bytes that are kept already, once: told again, or by another gateway, they count nothing."""

        def noted(connection: Connection) -> None:
            row = _insert(connection)(StoredOfTaskRow).values(
                task_uid=uid, caller=caller, bytes=size, since=now
            )
            new = row.on_conflict_do_nothing(index_elements=["task_uid"]).returning(StoredOfTaskRow.task_uid)
            if connection.execute(new).scalar_one_or_none() is not None:
                connection.execute(_add_to_caller(connection, caller, size))

        await self._database.transaction(noted)

    async def move(self, uid: str, made: str, now: datetime) -> None:
        """Count what was counted of a task as another's, which was made of it.

        What is counted there already came with the same request, sent again meanwhile: they are the same files.
        """

        def moved(connection: Connection) -> None:
            gone = delete(StoredOfTaskRow).where(StoredOfTaskRow.task_uid == uid)
            found = connection.execute(
                gone.returning(StoredOfTaskRow.caller, StoredOfTaskRow.bytes)
            ).one_or_none()
            if found is not None:
                forget_in(connection, [made])
                connection.execute(_add_to_task(connection, made, *found, now))

        await self._database.transaction(moved)

    async def empty(self, uids: Collection[str]) -> None:
        """Count nothing of these tasks any more, and remember that it was: ``note`` counts them not again."""

        def emptied(connection: Connection) -> None:
            found = select(StoredOfTaskRow.task_uid, StoredOfTaskRow.caller, StoredOfTaskRow.bytes)
            rows = connection.execute(found.where(StoredOfTaskRow.task_uid.in_(uids)).with_for_update()).all()
            for uid, caller, size in rows:
                connection.execute(_add_to_task(connection, uid, caller, -size, datetime.now(UTC)))
                connection.execute(_add_to_caller(connection, caller, -size))

        await self._database.transaction(emptied)

    async def counted_before(self, moment: datetime) -> Sequence[str]:
        """Return the ids under which something has been counted since before a moment."""
        query = select(StoredOfTaskRow.task_uid).where(StoredOfTaskRow.since < moment)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def forget(self, uids: Collection[str]) -> None:
        """Count nothing of these tasks any more: all that was kept of them is gone."""
        await self._database.transaction(lambda connection: forget_in(connection, uids))

    async def used(self, caller: str) -> int:
        """Return how many bytes a caller keeps."""
        query = select(StoredOfCallerRow.bytes).where(StoredOfCallerRow.caller == caller)
        async with self._database.reading() as session:
            return await session.scalar(query) or 0

    async def without_task(self, before: datetime, at_most: int) -> Sequence[str]:
        """Return the ids of tasks that are not there, of which something has been counted since before a moment."""
        query = select(StoredOfTaskRow.task_uid).where(StoredOfTaskRow.since < before)
        query = query.where(~exists().where(TaskRow.uid == StoredOfTaskRow.task_uid)).limit(at_most)
        async with self._database.reading() as session:
            return list(await session.scalars(query))


def forget_in(connection: Connection, uids: Collection[str]) -> None:
    """Count nothing of tasks any more, in a transaction that does more than that."""
    gone = delete(StoredOfTaskRow).where(StoredOfTaskRow.task_uid.in_(uids))
    sums: dict[str, int] = defaultdict(int)
    for caller, size in connection.execute(gone.returning(StoredOfTaskRow.caller, StoredOfTaskRow.bytes)):
        sums[caller] += size
    # In one order everywhere, so that gateways do not wait for each other.
    for caller in sorted(sums):
        connection.execute(_add_to_caller(connection, caller, -sums[caller]))


def left_key(uid: str) -> str:
    """Return under which id it is counted what a task left, where that is not counted with what came with it."""
    return _LEFT + uid.replace("-", "")


def uid_of(key: str) -> str:
    """Return the id of the task of which something is counted under an id."""
    return str(uuid.UUID(key.removeprefix(_LEFT))) if key.startswith(_LEFT) else key


def _add_to_caller(connection: Connection, caller: str, size: int) -> Insert:
    statement = _insert(connection)(StoredOfCallerRow).values(caller=caller, bytes=size)
    return statement.on_conflict_do_update(
        index_elements=["caller"], set_={"bytes": StoredOfCallerRow.bytes + statement.excluded.bytes}
    ).returning(StoredOfCallerRow.bytes)


def _add_to_task(connection: Connection, uid: str, caller: str, size: int, now: datetime) -> Insert:
    statement = _insert(connection)(StoredOfTaskRow).values(
        task_uid=uid, caller=caller, bytes=size, since=now
    )
    return statement.on_conflict_do_update(
        index_elements=["task_uid"], set_={"bytes": StoredOfTaskRow.bytes + statement.excluded.bytes}
    )


def _insert(connection: Connection) -> type[postgresql.Insert] | type[sqlite.Insert]:
    return postgresql.Insert if connection.dialect.name == "postgresql" else sqlite.Insert
