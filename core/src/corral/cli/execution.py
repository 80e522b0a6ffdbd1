"""Runs tasks, several at a time, and ends them in good order when the person wants out."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol

from corral.api import AgentTask, Frame
from corral.cli.clients import OpenClient
from corral.cli.exits import Exit

#: Started ahead for many tasks; each waits with a few megabytes.
_MOST_WAITING = 4
#: What observers say when they are told of an interruption.
CANCELLING = "cancelling; Ctrl-C once more ends everything at once"


class Observer(Protocol):
    """Hears what happens to the tasks, by their index."""

    def started(self, index: int) -> None:
        """A task begins."""
        ...

    def frame(self, index: int, execution: str, frame: Frame) -> None:
        """An execution of it said something."""
        ...

    def file(self, index: int, execution: str, path: str, data: bytes) -> None:
        """A file came back."""
        ...

    def finished(self, index: int, task: AgentTask) -> None:
        """It ended; its status says how."""
        ...

    def interrupted(self) -> None:
        """The tasks are being cancelled; once more ends everything at once."""
        ...

    def abandon(self) -> None:
        """Everything ends now. Called in a signal handler: only system calls."""
        ...


@dataclass(slots=True)
class Interruption:
    """The signal that ended the tasks, if one did."""

    signal: int | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the tasks."""

    tasks: list[AgentTask] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)


def run_tasks(
    tasks: Sequence[AgentTask], open_client: OpenClient, observer: Observer, parallel: int
) -> Outcome:
    """Run tasks to their ends.

    The first SIGINT, SIGTERM or SIGHUP cancels them: they come back with what they printed and reason
    ``Cancelled``. The second ends this process where it stands; no sandbox outlives it.

    Raises:
        IsolationUnavailableError: this machine cannot isolate, so nothing ran.
        GatewayError: the gateway that runs them refused, or went away.
        ReaderGoneError: nobody reads the output any more; the tasks were ended.
    """
    return asyncio.run(_run(tasks, open_client, observer, min(parallel, len(tasks))))


async def _run(
    tasks: Sequence[AgentTask], open_client: OpenClient, observer: Observer, parallel: int
) -> Outcome:
    cancel = asyncio.Event()
    found: dict[int, AgentTask] = {}
    waiting = 0 if len(tasks) == 1 else min(parallel, _MOST_WAITING)
    with _interruptible(cancel, observer) as interruption:
        async with open_client(waiting) as client:
            remaining = iter(enumerate(tasks))

            async def work() -> None:
                for index, task in remaining:
                    observer.started(index)
                    ended = await client.run_task(
                        task,
                        on_frame=partial(observer.frame, index),
                        on_file=partial(observer.file, index),
                        cancel=cancel,
                    )
                    found[index] = ended
                    observer.finished(index, found[index])

            await _all(work() for _ in range(parallel))
    return Outcome([found[index] for index in sorted(found)], interruption)


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; when one fails, end the others and raise what it raised."""
    loop = asyncio.get_running_loop()
    running = [loop.create_task(work) for work in works]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextmanager
def _interruptible(cancel: asyncio.Event, observer: Observer) -> Iterator[Interruption]:
    loop = asyncio.get_running_loop()
    interruption = Interruption()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if interruption.signal is None:
            interruption.signal = number
            loop.call_soon_threadsafe(cancel.set)
            loop.call_soon_threadsafe(observer.interrupted)
            return
        observer.abandon()
        # The sandboxes die with this process: bubblewrap's --die-with-parent, and the end of what its runner, or a
        # container, reads from.
        os._exit(Exit.after_signal(number))

    # Not the loop's own handlers: they wait for the loop, which a reader that does not read may hold up.
    before = {
        number: signal.signal(number, on_signal)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup, or a shell's background job
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # None: a handler that was not installed from Python
                signal.signal(number, handler)
