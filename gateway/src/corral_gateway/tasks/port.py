"""What the gateway asks of whatever runs tasks: a cluster, or this machine."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from corral.api import AgentTask, Phase
from corral_gateway.tasks.events import Event


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended."""

    created_at: datetime
    uid: str


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of a caller are wanted, newest first."""

    limit: int
    after: Cursor | None = None
    phase: Phase | None = None
    tool: str | None = None
    reason: str | None = None


class NoCapacityError(Exception):
    """As many tasks wait as may. Nothing was kept of this one."""

    def __init__(self, retry_after_seconds: int, *, own: bool = False) -> None:
        self.retry_after_seconds = retry_after_seconds
        #: It is the caller's own tasks that wait; others' are still taken in.
        self.own = own
        super().__init__("no capacity")


class KeyUsedError(Exception):
    """Another request has used this idempotency key. Nothing was kept of this one."""


class TaskObserver(Protocol):
    """Is told what becomes of tasks: all of them, also those that another gateway or kubectl made. Never fails."""

    def ended(self, task: AgentTask, caller: str, seconds: float) -> None:
        """Note a task that has ended, once.

        Args:
            task: with its result.
            caller: whose it is; empty: nobody's of the gateway.
            seconds: from taking it in to its end.
        """
        ...


@runtime_checkable
class LastingObserver(TaskObserver, Protocol):
    """One that remembers over restarts what it was told, and so can be told what it may have missed."""

    def ended_before(self, task: AgentTask, caller: str) -> None:
        """Note a task that had ended when this process began to look, unless it is noted already."""
        ...


class Executor(Protocol):
    """Runs tasks, each caller's own. Another's is as one that does not exist."""

    async def start(self) -> None:
        """Begin, and say of what an earlier process left unfinished how it ended."""
        ...

    def hand_over(self) -> None:
        """Begin nothing any more: what was taken in and has not begun is left to the next start, or to the cluster."""
        ...

    async def idle(self) -> None:
        """Return when nothing runs in this process."""
        ...

    async def cut_off(self) -> None:
        """Cancel what runs in this process, and write how it ended."""
        ...

    async def close(self) -> None:
        """End, and lose nothing."""
        ...

    async def made_before(self, task: AgentTask, caller: str) -> AgentTask | None:
        """Return the task that the idempotency key of this one has made already; None: none, or it has no key.

        Raises:
            KeyUsedError: the key was used for something else.
        """
        ...

    async def submit(self, task: AgentTask, caller: str) -> AgentTask:
        """Take a task in: when this returns, it will run or say why not, whatever happens.

        Returns:
            The task; where another with its idempotency key came in the same moment and was faster, that one.

        Raises:
            NoCapacityError: too many wait.
            KeyUsedError: its idempotency key was used for something else.
        """
        ...

    async def wait(self, uid: str, caller: str, seconds: float) -> AgentTask | None:
        """Return a task as soon as it has ended, or as it stands after so many seconds; None: there is none."""
        ...

    async def get(self, uid: str, caller: str) -> AgentTask | None:
        """Return a task as it stands."""
        ...

    async def submitted(self, uid: str, caller: str) -> AgentTask | None:
        """Return the task that was let in under an id, which may have another by now."""
        ...

    async def find(self, caller: str, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks, newest first."""
        ...

    async def events(self, uid: str, caller: str, after: int) -> AsyncGenerator[Event] | None:
        """Return what happens to a task, from the event after a number on, to its end; None: there is none."""
        ...

    async def cancel(self, uid: str, caller: str) -> AgentTask | None:
        """Ask for a task's end, and return it as it stands. One that has ended stays as it is."""
        ...
