"""The attempts that are being followed, each in the background."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from corral.api import ExecutionStatus, InputFile, Timings
from corral.sandbox.execution import Record
from corral_operator.clock import Clock
from corral_operator.control.links import Links
from corral_operator.decisions.actions import Start
from corral_operator.decisions.observed import RunView
from corral_operator.sandboxes.run import Run
from corral_operator.settings import Settings

#: A result may be this long as text; a status then keeps less of the output itself.
_KEEP_CHARACTERS = 256 * 1024


@dataclass(slots=True)
class _Followed:
    attempt: int
    pod: str
    run: Run
    task: asyncio.Task[None] | None = None
    cancelled_at: datetime | None = None
    lost_at: datetime | None = None


class Runs:
    """Attempts by task and execution. The latest attempt of an execution is the one that is known."""

    def __init__(
        self, links: Links, clock: Clock, settings: Settings, on_change: Callable[[str], None]
    ) -> None:
        self._links = links
        self._clock = clock
        self._settings = settings
        self._on_change = on_change
        self._followed: dict[tuple[str, str], _Followed] = {}

    def start(
        self,
        uid: str,
        execution: ExecutionStatus,
        action: Start,
        *,
        files: tuple[InputFile, ...],
        secret_env: tuple[str, ...],
        late_env: Mapping[str, str],
        queued: datetime,
    ) -> None:
        """Start an attempt, or attach to it. One that is followed already stays as it is."""
        known = self._followed.get((uid, action.execution))
        if known is not None and (known.attempt, known.pod) == (execution.attempt, action.pod.uid):
            return
        self.forget(uid, action.execution)
        request, times = action.request, execution.timings or Timings()
        if request is not None:
            request = replace(request, env={**request.env, **late_env}, secret_env=secret_env)
        record = Record(
            execution.name,
            execution.tool,
            execution.attempt,
            _moment(times.queued) or queued,
            claimed=_moment(times.claimed) or self._clock.now(),
            keep=_KEEP_CHARACTERS,
        )
        link = self._links.get(action.pod)
        followed = _Followed(
            execution.attempt, action.pod.uid, Run(link, action.owner, request, record, files)
        )
        self._followed[uid, action.execution] = followed
        followed.task = asyncio.get_running_loop().create_task(
            self._follow(uid, followed), name=f"run {uid}/{action.execution}"
        )

    async def _follow(self, uid: str, followed: _Followed) -> None:
        view = await followed.run.follow()
        if view.lost is not None:
            followed.lost_at = self._clock.now()
        self._on_change(uid)

    async def cancel(self, uid: str, execution: str) -> None:
        """Ask the runner of an execution to end it."""
        followed = self._followed.get((uid, execution))
        if followed is not None and followed.cancelled_at is None:
            followed.cancelled_at = self._clock.now()
            await followed.run.cancel()

    def views(self, uid: str, executions: Iterable[ExecutionStatus]) -> dict[str, RunView]:
        """Return what is known of a task's current attempts, each in the sandbox that it has, by execution."""
        found = {}
        for execution in executions:
            name, sandbox = execution.name, execution.sandbox
            followed = self._followed.get((uid, name))
            if (
                followed is not None
                and sandbox is not None
                and (followed.attempt, followed.pod) == (execution.attempt, sandbox.pod_uid)
            ):
                record = followed.run.record
                found[name] = replace(
                    followed.run.view,
                    cancelled_at=followed.cancelled_at,
                    lost_at=followed.lost_at,
                    isolation=record.isolation,
                    weakened=record.weakened,
                )
        return found

    def forget(self, uid: str, execution: str) -> None:
        """Stop following an attempt."""
        followed = self._followed.pop((uid, execution), None)
        if followed is not None and followed.task is not None:
            followed.task.cancel()

    def drop_task(self, uid: str) -> None:
        """Stop following what a task ran."""
        for key in [key for key in self._followed if key[0] == uid]:
            self.forget(*key)

    async def close(self) -> None:
        """Stop following everything; what runs in the sandboxes goes on."""
        tasks = [followed.task for followed in self._followed.values() if followed.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followed.clear()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
