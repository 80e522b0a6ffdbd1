"""What the embedded backend's ways of making a sandbox have in common."""

from typing import Protocol

from corral.sandbox.channel import RunnerChannel
from corral.sandbox.port import SandboxNeeds


class Enclosure(Protocol):
    """A started sandbox: a connection to its runner, and a handle on its end."""

    @property
    def channel(self) -> RunnerChannel:
        """The owner's end of the connection."""
        ...

    async def up(self) -> None:
        """Wait until its runner speaks. Requests may be sent before; they are queued.

        Raises:
            IsolationUnavailableError: this machine cannot isolate.
            SandboxError: it did not come up; nothing ran in it.
        """
        ...

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        ...

    async def gone(self) -> None:
        """Wait, after ``kill``, until nothing of it is left."""
        ...


class Source(Protocol):
    """One way of making enclosures."""

    async def make(self, needs: SandboxNeeds) -> Enclosure:
        """Start one. Returns before it is up.

        Raises:
            IsolationUnavailableError: this machine cannot isolate.
            SandboxError: it cannot be started.
        """
        ...

    def suits(self, needs: SandboxNeeds) -> bool:
        """Whether an enclosure that was started ahead may be given for this."""
        ...

    async def close(self) -> None:
        """End what all enclosures share, after each of them was killed."""
        ...
