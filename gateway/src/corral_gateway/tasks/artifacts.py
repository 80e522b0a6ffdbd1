"""The artifacts of tasks: what comes with one, and what one leaves. Counted before it is kept."""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from corral.api import AgentTask, InputFile
from corral.artifacts.names import file_name, input_name, stored_name
from corral.artifacts.offload import Files, Offloaded, offload, without_store
from corral.artifacts.port import ArtifactError, ArtifactMissingError, ArtifactStore
from corral.sandbox.errors import SandboxError
from corral.sandbox.execution import ReadFile
from corral_gateway.budgets.stored import NoRoomError, left_key
from corral_gateway.tasks.room import NoSpaceError, Room

log = logging.getLogger(__name__)

#: A store that has a bad moment is asked again, so often and so long apart.
_TRIES, _PAUSE_SECONDS = 4, 0.5


class TaskArtifacts:
    """What is kept of tasks beside their status."""

    def __init__(self, store: ArtifactStore | None, most_bytes: int, room: Room) -> None:
        """Use a store.

        Args:
            store: None: there is none, and what needs one is refused.
            most_bytes: of one task.
            room: what each caller may keep, and the disk.
        """
        self._store = store
        self._room = room
        self.most_bytes = most_bytes

    @property
    def there(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    async def take_in(self, uid: str, caller: str, contents: Mapping[str, BinaryIO]) -> None:
        """Keep the files that come with a task.

        Args:
            uid: of the task.
            caller: whose it is.
            contents: by their SHA-256.

        Raises:
            ArtifactError: one is not kept.
            NoRoomError: they are more than the caller may still keep; none is.
            SQLAlchemyError: nobody counts them; none is kept.
        """
        size = sum(content.seek(0, os.SEEK_END) for content in contents.values())
        async with self._room.space.taking(size):
            await self._room.take(uid, caller, size)
            for sha256, content in contents.items():
                await self._there().put(uid, input_name(sha256), content)

    async def hand_over(self, uid: str, made: str, hashes: Iterable[str]) -> None:
        """Give the files that were taken in to the task that was made of them, where a cluster named it anew.

        Raises:
            ArtifactError: not all of them are its own.
        """
        if uid == made:
            return
        for sha256 in hashes:
            await self._try(self._there().move, uid, made, input_name(sha256))
        await self._room.move(uid, made)

    async def complete(self, uid: str, caller: str, contents: Mapping[str, BinaryIO]) -> None:
        """See that a task has its files, which whoever made it before may not have lived to hand over.

        Raises:
            ArtifactError: it has not all of them.
        """
        for sha256, content in contents.items():
            try:
                await self._there().size(uid, input_name(sha256))
            except ArtifactMissingError:
                await self.take_in(uid, caller, {sha256: content})

    def reader(self, task: AgentTask) -> ReadFile | None:
        """Return what reads the files that came with a task; None: none can have come."""
        store = self._store
        if store is None:
            return None

        async def read(file: InputFile) -> bytes:
            sha256 = (file.artifact or "").removeprefix("sha256:")
            try:
                data = await store.get(task.metadata.uid or "", input_name(sha256))
            except ArtifactError as error:
                # What a store says names places of this host, or of its own.
                log.error("a file of task %s could not be read: %s", task.metadata.uid, error)  # noqa: TRY400
                raise SandboxError(
                    f"the file {file.path} could not be read from the artifact store"
                ) from error
            if hashlib.sha256(data).hexdigest() != sha256:
                raise SandboxError(f"the file {file.path} is not what came with the task")
            return data

        return read

    async def keep(self, task: AgentTask, caller: str, files: Files) -> AgentTask:
        """Keep what an ended task leaves, and return it with a status that is small enough and says where the rest is.

        What cannot be kept ends the task with ``OutputLimit`` and words that say why: nothing is lost unsaid.
        """
        wanted = offload(task, files)
        if not wanted.contents:
            return wanted.task
        why = await self._not_kept(task.metadata.uid or "", caller, wanted)
        return wanted.task if why is None else without_store(task, files, why=why)

    async def file(self, uid: str, execution: str, path: str, first: int, count: int) -> AsyncIterator[bytes]:
        """Return a part of a file that an execution left; see ``ArtifactStore.read``."""
        return await self._there().read(uid, file_name(execution, path), first, count)

    async def output(self, uid: str, execution: str, what: str) -> bytes:
        """Return an execution's whole ``stdout``, ``stderr`` or ``result`` as it was kept."""
        return await self._there().get(uid, stored_name(execution, what))

    async def output_in_pieces(self, uid: str, execution: str, what: str, size: int) -> AsyncIterator[bytes]:
        """Return the same piece by piece; see ``ArtifactStore.read``."""
        return await self._there().read(uid, stored_name(execution, what), 0, size)

    async def remove(self, uid: str) -> None:
        """Remove all that is kept of a task, and count it no more.

        Raises:
            ArtifactError: it is not removed, and counts on.
        """
        if self._store is not None:
            await self._store.remove(uid)
            await self._room.empty(uid, left_key(uid))

    async def forget(self, uid: str) -> None:
        """Remove what came with a task that was not taken in. What is left of it, a later sweep finds."""
        if self._store is None:
            return
        try:
            await self._store.remove(uid)
            await self._room.forget(uid)
        except ArtifactError as error:
            log.warning("files of the task %s, which was not taken in, are left: %s", uid, error)

    async def start(self) -> None:
        """Begin; the store is asked nothing before it is needed."""

    async def close(self) -> None:
        """Give the store up."""
        if self._store is not None:
            await self._store.close()

    async def _not_kept(self, uid: str, caller: str, wanted: Offloaded) -> str | None:
        """Keep what goes to the store. Returns why it does not; None: it is kept."""
        if self._store is None:
            return "there is no artifact store (CORRAL_ARTIFACTS_URL)"
        if wanted.size > self.most_bytes:
            most = f"{self.most_bytes} that one may (CORRAL_ARTIFACTS_TASK_SIZE)"
            return f"the task leaves {wanted.size} bytes, of {most}"
        try:
            async with self._room.space.taking(wanted.size):
                await self._put_counted(uid, caller, wanted)
        except NoRoomError as error:
            return f"its caller keeps too much ({error}; DELETE /v1/tasks/ID/files makes room)"
        except ArtifactError as error:
            log.error("what task %s left was not kept: %s", uid, error)  # noqa: TRY400 - it says all
            is_full = isinstance(error, NoSpaceError)
            return "the disk of the artifact store is nearly full" if is_full else "the artifact store failed"
        return None

    async def _put_counted(self, uid: str, caller: str, wanted: Offloaded) -> None:
        counted = await self._counted(uid, caller, wanted.size)
        # Of what fails a part may be there, so it counts.
        tried = 0
        try:
            for name, data in wanted.contents.items():
                tried += len(data)
                await self._try(self._there().put, uid, name, data)
        finally:
            if counted and tried < wanted.size:
                await self._room.give_back(uid, wanted.size - tried)

    async def _counted(self, uid: str, caller: str, size: int) -> bool:
        """Count what a task leaves. False: the database does not take it, and what a task brought is not lost for that.

        Raises:
            NoRoomError: it is too much.
        """
        for rest in reversed(range(_TRIES)):
            try:
                await self._room.take(uid, caller, size)
            except SQLAlchemyError:
                log.exception("%d bytes that task %s leaves could not be counted", size, uid)
                if rest:
                    await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return True
        return False

    @staticmethod
    async def _try(do: Callable[..., Awaitable[None]], *what: str | bytes) -> None:
        for rest in reversed(range(_TRIES)):
            try:
                await do(*what)
            except ArtifactMissingError:
                raise
            except ArtifactError:
                if not rest:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    def _there(self) -> ArtifactStore:
        if self._store is None:
            raise ArtifactError("there is no artifact store")
        return self._store
