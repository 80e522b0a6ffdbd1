"""The artifact store as the operator uses it: files for sandboxes, what these leave, and what is left of tasks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

from corral.api import ExecutionStatus
from corral.artifacts.offload import stored_bytes
from corral.artifacts.port import ArtifactError, ArtifactStore
from corral.sandbox.port import ExecutionRequest
from corral_operator.clock import Clock
from corral_operator.decisions.observed import Kept
from corral_operator.decisions.task_view import TaskView
from corral_operator.sandboxes.incoming import ReadFile, StoredFiles
from corral_operator.sandboxes.leaving import (
    FAILED,
    STORE_FAILED,
    STORE_SECONDS,
    TOO_LARGE,
    Leaving,
    Room,
    too_large,
)
from corral_operator.settings import Settings

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 1800.0
#: A gateway has files before their task is made, and an upload that takes longer is refused by then.
_ORPHANS_AFTER = timedelta(hours=2)
#: A request that was attached to says no limit of its own; a runner is told this one, or less.
_FILES_BYTES = 16 << 20


class Artifacts:
    """The store, if there is one."""

    def __init__(self, store: ArtifactStore | None, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._work: set[asyncio.Task[None]] = set()

    @property
    def there(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def reader(self, task: TaskView) -> ReadFile | None:
        """Return what reads the files that the store has for a task; None: there is no store."""
        if self._store is None or task.spec is None:
            return None
        return StoredFiles(
            store=self._store,
            clock=self._clock,
            uid=task.key.uid,
            files=task.spec.files,
            most_bytes=self._settings.artifacts_task_size,
            made_by_gateway=task.created if task.caller else None,
        ).read

    def leaving(
        self, task: TaskView, execution: ExecutionStatus, request: ExecutionRequest | None
    ) -> Leaving | None:
        """Return what keeps what an execution leaves; None: there is no store."""
        if self._store is None:
            return None
        most = self._settings.artifacts_task_size
        used = stored_bytes(one for one in task.status.executions if one.name != execution.name)
        return Leaving(
            self._store,
            task.key.uid,
            execution.name,
            Room(most - used, most, task.key.namespace),
            output_bytes=self._settings.status_output_bytes,
            files_bytes=_FILES_BYTES if request is None else request.outputs_limit_bytes,
        )

    async def keep(self, task: TaskView, contents: Mapping[str, bytes]) -> Kept:
        """Keep what a task's status has no room for, and say whether it is kept."""
        assert self._store is not None
        most = self._settings.artifacts_task_size
        if stored_bytes(task.status.executions) + sum(map(len, contents.values())) > most:
            return Kept(problem=too_large(most), problem_type=TOO_LARGE)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                for name, data in contents.items():
                    await self._store.put(task.key.uid, name, data)
        except (ArtifactError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.error("what task %s left is not kept: %s", task.key.uid, why)  # noqa: TRY400 - it says all
            return Kept(problem=STORE_FAILED, problem_type=FAILED)
        return Kept(frozenset(contents))

    def give_up(self, leaving: Leaving | None) -> None:
        """Keep nothing of an attempt that is followed no more, in the background."""
        if leaving is not None:
            self._run(leaving.give_up(), "giving up an upload")

    def forget(self, uid: str) -> None:
        """Remove all that is kept of a task that is gone, in the background. What fails, a later sweep finds."""
        if self._store is not None:
            self._run(self._remove(self._store, uid), f"artifacts of {uid}")

    async def sweep_for_ever(self, may_act: Callable[[], bool], is_known: Callable[[str], bool]) -> None:
        """Remove, now and then, what is kept of tasks that are not there any more, and never were.

        Args:
            may_act: whether all tasks have been seen, so that one that is not known is not there.
            is_known: whether there is a task of a UID.
        """
        while self._store is not None:
            await asyncio.sleep(_SWEEP_SECONDS)
            await self.sweep(may_act, is_known)

    async def sweep(self, may_act: Callable[[], bool], is_known: Callable[[str], bool]) -> None:
        """Sweep once. A store that does not answer is asked the next time."""
        if self._store is None or not may_act():
            return
        try:
            before = self._clock.now() - _ORPHANS_AFTER
            for uid in await self._store.tasks():
                if is_known(uid) or not await self._store.is_older(uid, before):
                    continue
                if may_act() and not is_known(uid):
                    await self._store.remove(uid)
        except ArtifactError as error:
            log.warning("artifacts of tasks that are gone could not be removed: %s; again later", error)

    async def close(self) -> None:
        """Give what is under way up, and the store."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    def _run(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    @staticmethod
    async def _remove(store: ArtifactStore, uid: str) -> None:
        try:
            await store.remove(uid)
        except ArtifactError as error:
            log.warning(
                "artifacts of the task %s, which is gone, are left for the next sweep: %s", uid, error
            )
