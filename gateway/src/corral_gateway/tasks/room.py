"""Whether there is room for what a task brings or leaves: of what its caller may keep, and on the disk."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from corral.artifacts.port import ArtifactError
from corral_gateway.budgets.budgets import Budgets

log = logging.getLogger(__name__)


class NoSpaceError(ArtifactError):
    """The disk of the store has too little left. Nothing was kept."""


class FreeSpace:
    """What must stay free of the disk that a store lies on."""

    def __init__(self, place: Path | None, least_free_bytes: int) -> None:
        """Look after a place.

        Args:
            place: a directory, which need not be there yet; None: the store is no disk of this machine.
            least_free_bytes: of its file system, for who may not be root.
        """
        self._place = place
        self._least_free = least_free_bytes
        self._under_way = 0

    @asynccontextmanager
    async def taking(self, size: int) -> AsyncIterator[None]:
        """Have so many bytes written meanwhile.

        Raises:
            NoSpaceError: less than what must stay free would be left.
        """
        # Many at once, each of which has room by itself, may have none together.
        self._under_way += size
        try:
            if self._place is not None and self._least_free:
                free = await asyncio.to_thread(_free_bytes, self._place)
                if free - self._under_way < self._least_free:
                    raise NoSpaceError(
                        f"{free} bytes are free where artifacts are kept, {self._under_way} would be written, and"
                        f" {self._least_free} must stay free (CORRAL_ARTIFACTS_FREE_SPACE)"
                    )
            yield
        finally:
            self._under_way -= size


class Room:
    """Both, for what a task brings and what it leaves."""

    def __init__(self, budgets: Budgets, space: FreeSpace) -> None:
        self._budgets = budgets
        self.space = space

    async def take(self, uid: str, caller: str, size: int) -> None:
        """Count bytes of a task before they are kept.

        Raises:
            NoRoomError: it would be more than its caller may keep.
            SQLAlchemyError: the database does not count.
        """
        await self._budgets.store(uid, caller, size)

    async def give_back(self, uid: str, size: int) -> None:
        """Count so many bytes of a task no more; as ``forget`` where the database does not."""
        try:
            await self._budgets.stored.give_back(uid, size)
        except SQLAlchemyError:
            log.exception("%d bytes of task %s are counted, and not kept", size, uid)

    async def move(self, uid: str, made: str) -> None:
        """Count what was counted of a task as another's, which was made of it; as ``forget`` if it is not."""
        try:
            await self._budgets.stored.move(uid, made, datetime.now(UTC))
        except SQLAlchemyError:
            log.exception("files of task %s are counted under %s", made, uid)

    async def empty(self, *uids: str) -> None:
        """Count nothing of a task any more. Where the database fails, it counts until the task is removed."""
        try:
            await self._budgets.stored.empty(uids)
        except SQLAlchemyError:
            log.exception("what tasks %s no longer keep is still counted", uids)

    async def forget(self, uid: str) -> None:
        """Count nothing of a task that never was. Where the database does not take it, a later sweep does it."""
        try:
            await self._budgets.stored.forget([uid])
        except SQLAlchemyError:
            log.exception("what task %s no longer keeps is still counted", uid)


def _free_bytes(place: Path) -> int:
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize
