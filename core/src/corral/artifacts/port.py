"""What the gateway and the operator ask of whatever keeps artifacts."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol


class ArtifactError(Exception):
    """The store cannot be used now. Nothing that it keeps is lost by it."""


class ArtifactMissingError(ArtifactError):
    """The store has nothing under this key."""


class ArtifactWriter(Protocol):
    """A content that is kept as it comes. Every method may raise ``ArtifactError``."""

    async def write(self, data: bytes) -> None:
        """Add to the content; returns when there is room for more."""
        ...

    async def close(self) -> None:
        """End it. When this returns it is kept, and not before."""
        ...

    async def discard(self) -> None:
        """Give it up; what was there under its name before may be gone."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes under keys ``UID/NAME``: all of a task's go with it. Every method may raise ``ArtifactError``."""

    async def put(self, uid: str, name: str, content: bytes | BinaryIO) -> None:
        """Keep a content, or all that a file holds. When this returns it is kept."""
        ...

    async def writer(self, uid: str, name: str, holder: str = "") -> ArtifactWriter:
        """Begin a content whose size is not known yet; some megabytes of it are in memory at a time.

        Args:
            uid: of the task.
            name: of the content.
            holder: on whose behalf: what many of one holder's have in memory leaves room for others'.
        """
        ...

    async def move(self, uid: str, other: str, name: str) -> None:
        """Give a task's content to another task, without reading it.

        Raises:
            ArtifactMissingError: there is none.
        """
        ...

    async def size(self, uid: str, name: str) -> int:
        """Return how many bytes a content has.

        Raises:
            ArtifactMissingError: there is none.
        """
        ...

    async def get(self, uid: str, name: str) -> bytes:
        """Return a whole content.

        Raises:
            ArtifactMissingError: there is none.
        """
        ...

    async def read(self, uid: str, name: str, first: int, count: int) -> AsyncIterator[bytes]:
        """Return a part of a content, piece by piece; the first piece is read before this returns.

        Raises:
            ArtifactMissingError: there is none.
        """
        ...

    async def remove(self, uid: str) -> None:
        """Remove all of a task's contents; none is no mistake."""
        ...

    async def tasks(self) -> Sequence[str]:
        """Return the ids of all tasks of which something is kept, however much that is."""
        ...

    async def is_older(self, uid: str, moment: datetime) -> bool:
        """Whether something is kept of a task, and all of it was kept before a moment."""
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...
