"""The artifacts of tasks: what comes with one, and what one leaves."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import BinaryIO

from corral.api import AgentTask, InputFile
from corral.sandbox.errors import SandboxError
from corral.sandbox.execution import ReadFile
from corral_gateway.artifacts.names import file_name, input_name, stored_name
from corral_gateway.artifacts.offload import Files, offload, without_store
from corral_gateway.artifacts.port import ArtifactError, ArtifactStore

log = logging.getLogger(__name__)

#: A store that has a bad moment is asked again, so often and so long apart.
_TRIES, _PAUSE_SECONDS = 4, 0.5


class TaskArtifacts:
    """What is kept of tasks beside their status."""

    def __init__(self, store: ArtifactStore | None, most_bytes: int) -> None:
        """Use a store.

        Args:
            store: None: there is none, and what needs one is refused.
            most_bytes: of one task.
        """
        self._store = store
        self.most_bytes = most_bytes

    @property
    def there(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    async def take_in(self, uid: str, sha256: str, content: bytes | BinaryIO) -> None:
        """Keep a file that comes with a task.

        Raises:
            ArtifactError: it is not kept.
        """
        await self._there().put(uid, input_name(sha256), content)

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

    async def keep(self, task: AgentTask, files: Files) -> AgentTask:
        """Keep what an ended task leaves, and return it with a status that is small enough and says where the rest is.

        What cannot be kept ends the task with ``OutputLimit`` and the store's own words: nothing is lost unsaid.
        """
        wanted = offload(task, files)
        if not wanted.contents:
            return wanted.task
        if self._store is None:
            return without_store(task, files, why="there is no artifact store (CORRAL_ARTIFACTS_URL)")
        if wanted.size > self.most_bytes:
            why = f"the task leaves {wanted.size} bytes, of {self.most_bytes} that one may (CORRAL_ARTIFACTS_TASK_SIZE)"
            return without_store(task, files, why=why)
        try:
            for name, data in wanted.contents.items():
                await self._put(task.metadata.uid or "", name, data)
        except ArtifactError as error:
            log.error("what task %s left was not kept: %s", task.metadata.uid, error)  # noqa: TRY400 - it says all
            return without_store(task, files, why="the artifact store failed")
        return wanted.task

    async def file(self, uid: str, execution: str, path: str, first: int, count: int) -> AsyncIterator[bytes]:
        """Return a part of a file that an execution left; see ``ArtifactStore.read``."""
        return await self._there().read(uid, file_name(execution, path), first, count)

    async def output(self, uid: str, execution: str, what: str) -> bytes:
        """Return an execution's whole ``stdout``, ``stderr`` or ``result`` as it was kept."""
        return await self._there().get(uid, stored_name(execution, what))

    async def output_in_pieces(self, uid: str, execution: str, what: str, size: int) -> AsyncIterator[bytes]:
        """Return the same piece by piece; see ``ArtifactStore.read``."""
        return await self._there().read(uid, stored_name(execution, what), 0, size)

    async def forget(self, uid: str) -> None:
        """Remove what came with a task that was not taken in. What is left of it, a later sweep finds."""
        if self._store is not None:
            try:
                await self._store.remove(uid)
            except ArtifactError as error:
                log.warning("files of the task %s, which was not taken in, are left: %s", uid, error)

    async def start(self) -> None:
        """Begin; the store is asked nothing before it is needed."""

    async def close(self) -> None:
        """Give the store up."""
        if self._store is not None:
            await self._store.close()

    async def _put(self, uid: str, name: str, data: bytes) -> None:
        for rest in reversed(range(_TRIES)):
            try:
                await self._there().put(uid, name, data)
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
