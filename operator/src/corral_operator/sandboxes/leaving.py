"""What an execution leaves, on its way into the artifact store as it comes, so that none of it is in memory whole."""

import asyncio
import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from corral.api import (
    ExecutionError,
    ExecutionStatus,
    FileChunk,
    Frame,
    FrameError,
    Output,
    OutputFile,
    Phase,
    Reason,
    StoredContent,
)
from corral.artifacts.names import file_name, stored_name
from corral.artifacts.port import ArtifactError, ArtifactStore, ArtifactWriter
from corral.sandbox.execution import STATUS_FILE_BYTES, output_file

log = logging.getLogger(__name__)

#: Of all small files together, in one status; more of them go to the store.
_INLINE_BYTES = 512 * 1024
#: As many as the runner sends back.
_MOST_FILES = 1000
#: A store that is down answers nobody; of a thousand sandboxes that end then, none is held for the others' turns.
STORE_SECONDS = 120.0
_DISCARD_SECONDS = 5.0
STORE_FAILED = (
    "the artifact store failed; run the task again when it answers, the operator's log says what was wrong"
)
#: ``error.type`` of what the store did not keep, and of what a task may not keep there.
FAILED, TOO_LARGE = "ArtifactStoreFailed", "ArtifactsTooLarge"


def too_large(most_bytes: int) -> str:
    """Return in words why something of a task is not kept: with it, it would have more than it may."""
    return f"a task may leave {most_bytes} bytes, and this is more (CORRAL_ARTIFACTS_TASK_SIZE)"


@dataclass(slots=True)
class Room:
    """Bytes that a task may yet have in the store."""

    left_bytes: int
    most_bytes: int
    #: The namespace that the task is of.
    holder: str

    def take(self, count: int) -> bool:
        """Count what goes there; False if it is too much."""
        self.left_bytes -= count
        return self.left_bytes >= 0


@dataclass(slots=True)
class _Content:
    """One content: in memory while it is small, then in the store."""

    store: ArtifactStore
    uid: str
    name: str
    room: Room
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    begin: bytearray = field(default_factory=bytearray)
    writer: ArtifactWriter | None = None
    #: Why it is lost, in words for people.
    lost: str | None = None
    #: The same for programs.
    lost_as: str = ""

    async def add(self, data: bytes, most_in_memory: int) -> None:
        self.size += len(data)
        self.digest.update(data)
        if self.lost is not None:
            return
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self._keep(data, most_in_memory)
        except (ArtifactError, TimeoutError) as error:
            await self._lose(error)

    async def _keep(self, data: bytes, most_in_memory: int) -> None:
        if self.writer is not None:
            await self._write(data)
        elif len(self.begin) + len(data) <= most_in_memory:
            self.begin += data
        else:
            first, self.begin = bytes(self.begin) + data, bytearray()
            self.writer = await self.store.writer(self.uid, self.name, self.room.holder)
            await self._write(first)

    async def end(self) -> None:
        """See that it is kept, where it is not in memory."""
        if self.writer is None or self.lost is not None:
            return
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self.writer.close()
        except (ArtifactError, TimeoutError) as error:
            await self._lose(error)

    async def give_up(self) -> None:
        if self.writer is not None and self.lost is None:
            await self.writer.discard()

    async def _write(self, data: bytes) -> None:
        assert self.writer is not None
        if self.room.take(len(data)):
            await self.writer.write(data)
            return
        self.lost, self.lost_as = too_large(self.room.most_bytes), TOO_LARGE
        await self.writer.discard()

    async def _lose(self, error: ArtifactError | TimeoutError) -> None:
        # What a store says names places of its own.
        log.error("%s of task %s is not kept: %s", self.name, self.uid, str(error) or "no answer in time")
        self.lost, self.lost_as = STORE_FAILED, FAILED
        if self.writer is not None:
            with suppress(TimeoutError):  # whoever did not answer in time may not do so now either
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await self.writer.discard()


class Leaving:
    """Takes in what one attempt of an execution prints and brings back."""

    def __init__(
        self,
        store: ArtifactStore,
        uid: str,
        execution: str,
        room: Room,
        *,
        output_bytes: int,
        files_bytes: int,
    ) -> None:
        """Prepare; nothing is asked of the store before it is needed.

        Args:
            store: where to.
            uid: of the task.
            execution: its name.
            room: of the task.
            output_bytes: of each stream that a status keeps; more is in the store, whole.
            files_bytes: that may come back.
        """
        self._store, self._uid, self._execution, self._room = store, uid, execution, room
        self._output_bytes = output_bytes
        self._files_left = files_bytes
        self._inline_left = _INLINE_BYTES
        self._streams: dict[str, _Content] = {}
        self._files: dict[str, _Content] = {}
        #: The file that comes now; a runner sends one after another.
        self._open: str | None = None

    def takes(self, frame: Frame) -> bool:
        """Whether something of a frame may have to be kept."""
        return isinstance(frame, Output | FileChunk)

    async def take(self, frame: Frame) -> None:
        """Take one frame in.

        Raises:
            FrameError: no runner of ours sends such files.
        """
        if isinstance(frame, Output):
            content = self._streams.get(frame.stream)
            if content is None:
                content = self._streams[frame.stream] = self._content(
                    stored_name(self._execution, frame.stream)
                )
            await content.add(frame.text.encode("utf-8", "replace"), self._output_bytes)
        elif isinstance(frame, FileChunk):
            await self._take_file(frame)

    async def _take_file(self, chunk: FileChunk) -> None:
        if chunk.path != self._open:
            if self._open is not None or chunk.path in self._files or len(self._files) >= _MOST_FILES:
                raise FrameError("the runner sent back files in no order, twice, or too many")
            self._open = chunk.path
            self._files[chunk.path] = self._content(file_name(self._execution, chunk.path))
        self._files_left -= len(chunk.data)
        if self._files_left < 0:
            raise FrameError("the runner sent back more bytes of files than were asked for")
        content = self._files[chunk.path]
        await content.add(chunk.data, min(STATUS_FILE_BYTES, self._inline_left))
        if chunk.last:
            self._open = None
            self._inline_left -= len(content.begin)
            await content.end()

    async def ended(self, status: ExecutionStatus) -> ExecutionStatus:
        """Return how the execution ended, with what it left: small in its status, the rest in the store.

        A file that could not be kept ends it with ``OutputLimit``; output that could not is cut, and said to be.
        """
        stored = list(status.stored)
        for name, content in self._streams.items():
            await content.end()
            if content.writer is not None and content.lost is None:
                digest = content.digest.hexdigest()
                stored.append(StoredContent(name=name, size=content.size, sha256=digest))
        if self._open is not None:  # it did not come whole
            await self._files.pop(self._open).give_up()
        files = tuple(_file(path, content) for path, content in self._files.items())
        status = status.model_copy(update={"stored": tuple(stored), "files": (*files, *status.files)})
        lost = {path: content for path, content in self._files.items() if content.lost is not None}
        if not lost or not status.succeeded:
            return status
        first = next(iter(lost.values()))
        message = f"not kept: {', '.join(lost)[:1000]}: {first.lost}"
        error = ExecutionError(type=first.lost_as, message=message, field="spec.outputs")
        changes = {"phase": Phase.FAILED, "reason": Reason.OUTPUT_LIMIT, "message": message, "error": error}
        return status.model_copy(update=changes)

    async def give_up(self) -> None:
        """Keep nothing."""
        for content in (*self._streams.values(), *self._files.values()):
            await content.give_up()

    def _content(self, name: str) -> _Content:
        return _Content(self._store, self._uid, name, self._room)


def _file(path: str, content: _Content) -> OutputFile:
    if content.writer is None and content.lost is None:
        return output_file(path, bytes(content.begin))
    kept = True if content.lost is None else None
    return OutputFile(path=path, size=content.size, sha256=content.digest.hexdigest(), stored=kept)
