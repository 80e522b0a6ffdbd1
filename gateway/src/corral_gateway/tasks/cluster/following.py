"""The events of one task for one reader: from its runners while they live, from its status when they do not."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from corral.api import AgentTask, ExecutionStatus, Frame, FrameError, Result, Strategy
from corral.sandbox.errors import SandboxError
from corral_gateway.tasks.cluster.memory import TaskMemory
from corral_gateway.tasks.cluster.runners import Attempt, Runners
from corral_gateway.tasks.cluster.telling import Telling
from corral_gateway.tasks.events import Event

log = logging.getLogger(__name__)

#: The name of the only execution of a task of one tool.
_MAIN = "main"
#: The operator takes a pod away half a second after its end; what is on its way gets so long.
_LAST_FRAMES_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Following:
    """Follows one task. Steps are told one after another, as the spec has them, also where they run at once."""

    def __init__(
        self,
        uid: str,
        after: int,
        *,
        memory: TaskMemory,
        runners: Runners,
        read: Callable[[str], Awaitable[AgentTask | None]],
    ) -> None:
        """Begin.

        Args:
            uid: of the task.
            after: number of the last event that the reader has.
            memory: tells when something about the task is new.
            runners: tell what happens while it does.
            read: gives the task as it stands, None if there is none.
        """
        self._uid = uid
        self._memory = memory
        self._runners = runners
        self._read = read
        self._telling = Telling(after)

    async def events(self) -> AsyncGenerator[Event]:
        """Yield the events to the last one, or until nobody knows of the task any more."""
        index = self._telling.place.execution
        while True:
            change = self._memory.change(self._uid)
            task = await self._read(self._uid)
            if task is None:
                return
            names = _names(task)
            while index < len(names):
                execution = _begun(task, names[index])
                if execution is None:
                    if not _is_passed(task, names, index):
                        break
                elif execution.reason is None and task.reason is None:
                    self._telling.begins(index, execution.attempt)
                    async with aclosing(self._live(task, execution)) as events:
                        async for event in events:
                            yield event
                    break
                else:
                    self._telling.begins(index, execution.attempt)
                    for event in self._telling.of_status(execution):
                        yield event
                index += 1
            if task.reason is not None and index >= len(names):
                for event in self._telling.of_end(task, len(names)):
                    yield event
                return
            await change.wait()

    async def _live(self, task: AgentTask, execution: ExecutionStatus) -> AsyncGenerator[Event]:
        """Yield what the runner says until the status knows more than it, over connections that break."""
        loop = asyncio.get_running_loop()
        over = loop.create_task(self._over(execution))
        pause = _FIRST_PAUSE_SECONDS
        try:
            while not over.done():
                sandbox = execution.sandbox
                if sandbox is not None and sandbox.pod_name is not None:
                    attempt = Attempt(
                        task.metadata.uid or "",
                        execution.name,
                        execution.attempt,
                        task.metadata.namespace or "",
                        sandbox.pod_name,
                    )
                    try:
                        async with aclosing(self._from_runner(attempt, over)) as events:
                            async for event in events:
                                pause = _FIRST_PAUSE_SECONDS
                                yield event
                    except (SandboxError, FrameError) as error:
                        log.debug("the runner of %s: %s", attempt, error)
                    else:
                        await over
                        return
                await asyncio.wait([over], timeout=pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        finally:
            over.cancel()

    async def _from_runner(self, attempt: Attempt, over: "asyncio.Task[None]") -> AsyncGenerator[Event]:
        """Yield what is new of what the runner says, to its last frame, or a little longer than the status waits."""
        told = self._telling.frames_begin()
        loop = asyncio.get_running_loop()
        async with aclosing(self._runners.frames(attempt)) as frames:
            coming: asyncio.Task[Frame | None] | None = None
            try:
                while True:
                    coming = coming or loop.create_task(_next(frames))
                    await asyncio.wait([coming, over], return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        await asyncio.wait([coming], timeout=_LAST_FRAMES_SECONDS)
                        if not coming.done():
                            return
                    frame, coming = coming.result(), None
                    if frame is None or isinstance(frame, Result):
                        return
                    for event in told.take(attempt.execution, frame):
                        yield event
            finally:
                if coming is not None:
                    coming.cancel()
                    with suppress(asyncio.CancelledError, SandboxError, FrameError):
                        await coming

    async def _over(self, execution: ExecutionStatus) -> None:
        """Wait until the status says more about an execution than that this attempt of it runs."""
        while True:
            change = self._memory.change(self._uid)
            task = await self._read(self._uid)
            now = None if task is None else _begun(task, execution.name)
            if task is None or task.reason is not None or now is None or now.reason is not None:
                return
            if (now.attempt, now.sandbox and now.sandbox.pod_name) != (
                execution.attempt,
                execution.sandbox and execution.sandbox.pod_name,
            ):
                return
            await change.wait()


async def _next(frames: AsyncIterator[Frame]) -> Frame | None:
    return await anext(frames, None)


def _names(task: AgentTask) -> Sequence[str]:
    """Return the names of a task's executions in the order of its spec."""
    return [step.name for step in task.spec.steps] or [_MAIN]


def _begun(task: AgentTask, name: str) -> ExecutionStatus | None:
    """Return an execution that has a sandbox, or has ended without one."""
    for execution in task.executions:
        if execution.name == name and (execution.sandbox is not None or execution.reason is not None):
            return execution
    return None


def _is_passed(task: AgentTask, names: Sequence[str], index: int) -> bool:
    """Whether an execution that has not begun never will."""
    if task.reason is not None:
        return True
    later = any(_begun(task, name) is not None for name in names[index + 1 :])
    return later and task.spec.strategy is Strategy.SEQUENTIAL
