"""Whether there is room for what a task brings or leaves: of what its caller may keep, and on the disk."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

    def __init__(self, budgets: Budgets | None, space: FreeSpace) -> None:
        """Use both.

        Args:
            budgets: of callers; None: what they keep is not counted.
            space: of the disk.
        """
        self._budgets = budgets
        self.space = space

    async def take(self, uid: str, caller: str, size: int) -> None:
        """Count bytes of a task before they are kept.

        Raises:
            NoRoomError: it would be more than its caller may keep.
            SQLAlchemyError: the database does not count.
        """
        if self._budgets is not None:
            await self._budgets.store(uid, caller, size)

    async def give_back(self, uid: str, size: int) -> None:
        """Count so many bytes of a task no more; as ``forget`` where the database does not."""
        if self._budgets is None:
            return
        try:
            await self._budgets.stored.give_back(uid, size)
        except SQLAlchemyError:
            log.exception("%d bytes of task %s are counted, and not kept", size, uid)

    async def forget(self, uid: str) -> None:
        """Count nothing of a task any more. Where the database does not, a later sweep does."""
        if self._budgets is None:
            return
        try:
            await self._budgets.stored.forget([uid])
        except SQLAlchemyError:
            log.exception("what task %s no longer keeps is still counted", uid)


def _free_bytes(place: Path) -> int:
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize
