"""Files that a task names by their hash, on their way from the artifact store into a sandbox."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from corral.api import InputFile, Reason
from corral.artifacts.names import input_name
from corral.artifacts.port import ArtifactError, ArtifactMissingError, ArtifactStore
from corral.sandbox.errors import SandboxError
from corral_operator.clock import Clock

log = logging.getLogger(__name__)

#: The gateway gives a task its files as soon as it knows the task's UID, and has this long for it.
_HANDING_OVER = timedelta(seconds=60)
_PAUSE_SECONDS = 0.2
#: A store that is silent is no runner that is: whoever waits longer is told so of the runner.
_STORE_SECONDS = 120.0

#: Returns a file's content, piece by piece.
ReadFile = Callable[[InputFile], AsyncIterator[bytes]]


class FileUnavailableError(SandboxError):
    """A file of a task cannot be had, so that nothing of the task has started."""

    def __init__(self, reason: Reason, kind: str, message: str, field: str) -> None:
        """Make it.

        Args:
            reason: why the execution ends.
            kind: the same more closely, for programs.
            message: with what to do.
            field: of the task.
        """
        super().__init__(message)
        self.reason = reason
        self.kind = kind
        self.field = field


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """Reads a task's files: only what the store has under the task's own UID, where nobody but the gateway puts it."""

    store: ArtifactStore
    clock: Clock
    #: UID of the task.
    uid: str
    files: Sequence[InputFile]
    #: All of them together may have.
    most_bytes: int
    #: When the task was made, if the gateway made it; None: by somebody else, so nothing comes after it.
    made_by_gateway: datetime | None
    #: By name in the store, each asked for once.
    sizes: dict[str, int] = field(default_factory=dict)

    async def read(self, file: InputFile) -> AsyncIterator[bytes]:
        """Yield a file's content.

        Raises:
            FileUnavailableError: it is not there, is not what the task names, or the store does not give it.
        """
        sha256 = (file.artifact or "").removeprefix("sha256:")
        digest = hashlib.sha256()
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                size = await self._size(sha256)
                await self._check_sizes()
                pieces = await self.store.read(self.uid, input_name(sha256), 0, size)
            while piece := await asyncio.wait_for(anext(pieces, b""), _STORE_SECONDS):
                digest.update(piece)
                yield piece
        except ArtifactMissingError:
            message = (
                f"the artifact store has no file of this hash for this task: {file.path}. "
                "Send the file itself to the gateway, as multipart/form-data"
            )
            raise self._unavailable(file, Reason.INVALID_SPEC, "ArtifactMissing", message) from None
        except (ArtifactError, TimeoutError) as error:
            # What a store says names places of its own.
            why = str(error) or "no answer in time"
            log.error("file %s of task %s: %s", file.path, self.uid, why)  # noqa: TRY400 - it says all
            message = (
                f"the artifact store does not give {file.path}; the operator's log says why. "
                "Run the task again when the store answers"
            )
            raise self._unavailable(file, Reason.SANDBOX_FAILED, "ArtifactStoreFailed", message) from error
        if digest.hexdigest() != sha256:
            message = (
                f"what the artifact store has as {file.path} is not what came with the task. Send it again"
            )
            raise self._unavailable(file, Reason.SANDBOX_FAILED, "ArtifactCorrupt", message)

    async def _size(self, sha256: str) -> int:
        name = input_name(sha256)
        while name not in self.sizes:
            try:
                self.sizes[name] = await self.store.size(self.uid, name)
                break
            except ArtifactMissingError:
                if self.made_by_gateway is None or self.clock.now() > self.made_by_gateway + _HANDING_OVER:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)
        return self.sizes[name]

    async def _check_sizes(self) -> None:
        """Refuse files that are more together than a task may have; the gateway has done so, of what it took in."""
        hashes = {file.artifact.removeprefix("sha256:") for file in self.files if file.artifact}
        sizes = [await self._size(sha256) for sha256 in sorted(hashes)]
        if sum(sizes) > self.most_bytes:
            message = (
                f"its files have {sum(sizes)} bytes, of {self.most_bytes} that a task may have. "
                "Send less, or have CORRAL_ARTIFACTS_TASK_SIZE raised"
            )
            raise FileUnavailableError(Reason.INVALID_SPEC, "ArtifactsTooLarge", message, "spec.files")

    def _unavailable(self, file: InputFile, reason: Reason, kind: str, message: str) -> FileUnavailableError:
        place = next((place for place, one in enumerate(self.files) if one is file), 0)
        return FileUnavailableError(reason, kind, message, f"spec.files[{place}].artifact")
