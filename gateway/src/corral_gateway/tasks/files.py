"""What a task left: the files of its executions, and its output whole. Pure but for reading it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from corral.api import AgentTask, ExecutionStatus, OutputFile, StoredContent


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that an execution brought back."""

    execution: str
    file: OutputFile

    @property
    def is_kept(self) -> bool:
        """Its content can be had; otherwise it was too large, and its name and size are all there is."""
        return bool(self.file.stored) or self.file.data is not None


@dataclass(frozen=True, slots=True)
class Content:
    """A part of a content, piece by piece."""

    size: int
    sha256: str | None
    pieces: AsyncIterator[bytes]


def files_of(task: AgentTask) -> list[LeftFile]:
    """Return all files that a task left, in the order of its executions."""
    return [LeftFile(execution.name, file) for execution in task.executions for file in execution.files]


def find_file(task: AgentTask, path: str, execution: str | None) -> LeftFile | None:
    """Return a file by its path: of the execution that is named, or of the last one that has it."""
    for left in reversed(files_of(task)):
        if left.file.path == path and execution in {None, left.execution}:
            return left
    return None


def find_execution(task: AgentTask, name: str | None) -> ExecutionStatus | None:
    """Return an execution by its name, or the last one."""
    for execution in reversed(task.executions):
        if name in {None, execution.name}:
            return execution
    return None


def stored_as(execution: ExecutionStatus, what: str) -> StoredContent | None:
    """Return where an execution's ``stdout``, ``stderr`` or ``result`` is kept, if it is not in its status."""
    return next((one for one in execution.stored if one.name == what), None)


async def one_piece(data: bytes) -> AsyncIterator[bytes]:
    """Return a content that is at hand as pieces."""
    yield data
