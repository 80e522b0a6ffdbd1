"""What the gateway asks of whatever keeps artifacts."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol


class ArtifactError(Exception):
    """The store cannot be used now. Nothing that it keeps is lost by it."""


class ArtifactMissingError(ArtifactError):
    """The store has nothing under this key."""


class ArtifactStore(Protocol):
    """Keeps bytes under keys ``UID/NAME``: all of a task's go with it. Every method may raise ``ArtifactError``."""

    async def put(self, uid: str, name: str, content: bytes | BinaryIO) -> None:
        """Keep a content, or all that a file holds. When this returns it is kept."""
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

    async def tasks_before(self, moment: datetime) -> Sequence[str]:
        """Return the ids of tasks whose contents were all kept before a moment."""
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...
