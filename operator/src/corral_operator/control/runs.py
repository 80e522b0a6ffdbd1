"""The attempts that are being followed, each in the background."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from corral.api import ExecutionError, ExecutionStatus, Reason, Timings
from corral.cluster.port import ObjectKey
from corral.sandbox.execution import Record
from corral_operator.clock import Clock
from corral_operator.control.artifacts import Artifacts
from corral_operator.control.links import Links
from corral_operator.decisions.actions import Start
from corral_operator.decisions.observed import RunView
from corral_operator.decisions.task_view import TaskView
from corral_operator.sandboxes.run import Run
from corral_operator.settings import Settings

log = logging.getLogger(__name__)

#: A result may be this long as text; a status then keeps less of the output itself.
_KEEP_CHARACTERS = 256 * 1024
#: Without an artifact store a file is in the status or nowhere. What all of them may take is decided there.
_INLINE_BYTES = 512 * 1024


@dataclass(slots=True)
class _Followed:
    attempt: int
    pod: str
    record: Record
    #: None: it could not be told to start.
    run: Run | None = None
    view: RunView = field(default_factory=RunView)
    task: asyncio.Task[None] | None = None
    question: asyncio.Task[None] | None = None
    asked_at: datetime | None = None
    cancelled_at: datetime | None = None
    over_at: datetime | None = None


class Runs:
    """Attempts by task and execution. The latest attempt of an execution is the one that is known."""

    def __init__(
        self,
        links: Links,
        artifacts: Artifacts,
        clock: Clock,
        settings: Settings,
        on_change: Callable[[str], None],
    ) -> None:
        self._artifacts = artifacts
        self._settings = settings
        self._links = links
        self._clock = clock
        self._on_change = on_change
        self._followed: dict[tuple[str, str], _Followed] = {}

    def start(
        self,
        task: TaskView,
        execution: ExecutionStatus,
        action: Start,
        *,
        secret_env: tuple[str, ...],
        late_env: Mapping[str, str],
        queued: datetime,
    ) -> None:
        """Start an attempt, or attach to it. One that is followed already stays as it is."""
        uid = task.key.uid
        if self.follows(uid, execution, action.pod):
            return
        link = self._links.find(action.pod)
        if link is None:
            return  # the pod has gone since this was decided; the event of its end is still to come
        self.forget(uid, action.execution)
        request = action.request
        if request is not None:
            request = replace(
                request,
                env={**request.env, **late_env},
                secret_env=secret_env,
                outputs_limit_bytes=request.outputs_limit_bytes if self._artifacts.there else _INLINE_BYTES,
            )
        record = self._record(execution, queued)
        run = Run(
            link,
            action.owner,
            request,
            record,
            () if task.spec is None else task.spec.files,
            start_seconds=self._settings.pod_start_seconds,
            read=self._artifacts.reader(task),
            leaving=self._artifacts.leaving(task, execution, request),
        )
        followed = _Followed(execution.attempt, action.pod.uid, record, run)
        self._followed[uid, action.execution] = followed
        followed.task = asyncio.get_running_loop().create_task(
            self._follow(uid, followed, run), name=f"run {uid}/{action.execution}"
        )

    def follows(self, uid: str, execution: ExecutionStatus, pod: ObjectKey) -> bool:
        """Whether this attempt, in this pod, is followed already."""
        known = self._followed.get((uid, execution.name))
        return known is not None and (known.attempt, known.pod) == (execution.attempt, pod.uid)

    def fail(
        self,
        uid: str,
        execution: ExecutionStatus,
        pod: ObjectKey,
        why: tuple[Reason, str],
        queued: datetime,
    ) -> None:
        """End an attempt that could not be told to start."""
        reason, message = why
        followed = _Followed(execution.attempt, pod.uid, self._record(execution, queued))
        error = ExecutionError(type=reason.value, message=message)
        followed.view = RunView(ended=followed.record.refused(reason, message, error), began=False)
        self._followed[uid, execution.name] = followed
        self._on_change(uid)

    def _record(self, execution: ExecutionStatus, queued: datetime) -> Record:
        times = execution.timings or Timings()
        return Record(
            execution.name,
            execution.tool,
            execution.attempt,
            _moment(times.queued) or queued,
            claimed=_moment(times.claimed) or self._clock.now(),
            keep=_KEEP_CHARACTERS,
            inline_bytes=_INLINE_BYTES,
            outputs_bytes=_INLINE_BYTES,
        )

    async def _follow(self, uid: str, followed: _Followed, run: Run) -> None:
        try:
            followed.view = await self._kept(run, await run.follow())
        except asyncio.CancelledError:
            self._artifacts.give_up(run.leaving)
            raise
        # Whatever a runner that somebody took over sends, its task ends.
        except Exception as error:
            log.exception("following %s of %s failed", followed.record.name, uid)
            self._artifacts.give_up(run.leaving)
            message = f"what the runner sent could not be read: {error!r}"
            followed.view = RunView(ended=followed.record.refused(Reason.SANDBOX_FAILED, message), began=True)
        finally:
            # Where nothing of it began, the sandbox may be another task's, and that one listens on.
            if followed.view.began:
                run.hang_up()
        followed.over_at = self._clock.now()
        self._on_change(uid)

    async def _kept(self, run: Run, view: RunView) -> RunView:
        """Return how a run ended once what it left is kept."""
        if run.leaving is None:
            return view
        if view.ended is None:
            self._artifacts.give_up(run.leaving)
            return view
        return replace(view, ended=await run.leaving.ended(view.ended))

    def ask(self, uid: str, execution: str) -> None:
        """Find out, in the background, whether a runner still answers. One that does not counts as lost."""
        followed = self._followed.get((uid, execution))
        if followed is not None and followed.run is not None and followed.over_at is None:
            followed.asked_at = self._clock.now()
            followed.question = asyncio.get_running_loop().create_task(self._ask(uid, followed, followed.run))

    async def _ask(self, uid: str, followed: _Followed, run: Run) -> None:
        if await run.answers() or followed.over_at is not None:
            return
        if followed.task is not None:
            followed.task.cancel()
        followed.view = RunView(lost="its runner does not answer any more", began=True)
        followed.over_at = self._clock.now()
        self._on_change(uid)

    async def cancel(self, uid: str, execution: str) -> None:
        """Ask the runner of an execution to end it."""
        followed = self._followed.get((uid, execution))
        if followed is not None and followed.cancelled_at is None:
            followed.cancelled_at = self._clock.now()
            if followed.run is not None:
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
                record = followed.record
                found[name] = replace(
                    followed.view,
                    cancelled_at=followed.cancelled_at,
                    over_at=followed.over_at,
                    asked_at=followed.asked_at,
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
