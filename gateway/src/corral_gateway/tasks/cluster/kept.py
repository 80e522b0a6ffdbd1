"""What callers keep in the object store that a cluster's operator writes to: counted when it is seen.

The operator asks no gateway before it keeps what a task leaves. So a caller may get over their budget by what their
running tasks leave, and then begins none until there is room again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from corral.api import AgentTask, Tool
from corral.artifacts.offload import stored_bytes
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.budgets.stored import NoRoomError, left_key, uid_of
from corral_gateway.identity.caller import Caller
from corral_gateway.tasks.contents import no_room

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
_SWEEP_SECONDS = 60.0
#: What is not known of by then never was, or is gone: files come before their task, and the watch tells of it late.
_ORPHANS_AFTER = timedelta(hours=2)


class WatchedTasks(Protocol):
    """Of ``ClusterTasks``, what it takes to know which are gone."""

    @property
    def is_complete(self) -> bool:
        """Whether the cluster has told of all tasks that there are."""
        ...

    def knows(self, uid: str) -> bool:
        """Whether there is a task with an id, as far as the cluster has told."""
        ...


class KeptInCluster:
    """A ``Guard``, a ``LastingObserver``, and a part of the gateway."""

    def __init__(self, budgets: Budgets, tasks: Callable[[], WatchedTasks]) -> None:
        """Prepare.

        Args:
            budgets: what each caller may keep, and where it is counted.
            tasks: those of the cluster, which themselves tell this one of their ends.
        """
        self._budgets = budgets
        self._tasks = tasks
        self._left: deque[tuple[str, str, int]] = deque()
        self._changed = asyncio.Event()
        self._work: list[asyncio.Task[None]] = []

    async def admit(self, _task: AgentTask, _tools: Sequence[Tool], caller: Caller) -> None:
        """Let a task through whose caller has room for what it may leave; see ``Guard``."""
        limit = self._budgets.budget(caller).stored_bytes
        if limit is None:
            return
        used = await self._budgets.stored.used(caller.name)
        if used > limit:
            raise no_room(NoRoomError(used, limit, 0))

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``: nothing was counted."""

    def ended(self, task: AgentTask, caller: str, _seconds: float) -> None:
        """Count what a task left; see ``TaskObserver``."""
        self.ended_before(task, caller)

    def ended_before(self, task: AgentTask, caller: str) -> None:
        """Count it unless it is counted; see ``LastingObserver``."""
        size = stored_bytes(task.executions)
        if size and caller:
            self._left.append((left_key(task.metadata.uid or ""), caller, size))
            self._changed.set()

    async def start(self) -> None:
        """Begin to count."""
        loop = asyncio.get_running_loop()
        self._work = [
            loop.create_task(self._count_for_ever(), name="what tasks leave is counted"),
            loop.create_task(self._sweep_for_ever(), name="what tasks left is swept"),
        ]

    async def close(self) -> None:
        """End. What is not counted by then, the next start is told of again."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def sweep(self, now: datetime) -> None:
        """Count nothing any more of tasks that are gone.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        tasks = self._tasks()
        if not tasks.is_complete:
            return
        counted = await self._budgets.stored.counted_before(now - _ORPHANS_AFTER)
        gone = [key for key in counted if not tasks.knows(uid_of(key))]
        if gone:
            await self._budgets.stored.forget(gone)

    async def _count_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._left:
                try:
                    await self._budgets.stored.note(*self._left[0], datetime.now(UTC))
                except SQLAlchemyError:
                    log.exception("what a task left could not be counted; again soon")
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    self._left.popleft()

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.sweep(datetime.now(UTC))
            except SQLAlchemyError as error:
                log.warning("what tasks left could not be swept: %s; again soon", error)
