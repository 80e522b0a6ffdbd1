"""Looks at each object one after another, never two at once for the same one, and again after an error."""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from corral.cluster.port import ClusterError, Unavailable
from corral_operator.metrics import RECONCILE_ERRORS

_K = TypeVar("_K", bound=Hashable)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0

log = logging.getLogger(__name__)


def _some(pause: float) -> float:
    """Return a pause, half of it by chance, so that a thousand do not come back in the same moment."""
    return pause * random.uniform(0.5, 1)  # noqa: S311 - no secret


class Workers(Generic[_K]):
    """A worker per key that has something to do, and none otherwise."""

    def __init__(
        self,
        look: Callable[[_K], Awaitable[float | None]],
        name: str,
        may_look: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make it.

        Args:
            look: looks at one object; returns when it wants to look again, on the loop's clock, or None.
            name: of what is looked at, for logs and metrics.
            may_look: asked before each look; a look that may not be is dropped.
        """
        self._may_look = may_look
        self._look = look
        self._name = name
        self._dirty: set[_K] = set()
        self._running: dict[_K, asyncio.Task[None]] = {}
        self._alarms: dict[_K, asyncio.TimerHandle] = {}
        self._closed = False

    def kick(self, key: _K) -> None:
        """Look at an object as soon as possible, once more if somebody is looking right now."""
        if self._closed:
            return
        self._dirty.add(key)
        if key not in self._running:
            task = asyncio.get_running_loop().create_task(self._work(key), name=f"{self._name} {key}")
            self._running[key] = task

    def forget(self, key: _K) -> None:
        """Stop waking up for an object that is gone."""
        self._dirty.discard(key)
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.cancel()

    def halt(self) -> None:
        """Let nobody go on, from this moment. What is being written is given up as in a crash."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        self._dirty.clear()
        for task in self._running.values():
            task.cancel()

    async def close(self) -> None:
        """Halt, and return once everybody has ended. Whoever is kicked afterwards is looked at again."""
        self._closed = True
        self.halt()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self.halt()
        self._running.clear()
        self._closed = False

    async def _work(self, key: _K) -> None:
        pause = _FIRST_PAUSE_SECONDS
        try:
            while key in self._dirty and not self._closed:
                self._dirty.discard(key)
                self._set_alarm(key, None)
                if not self._may_look():
                    return
                try:
                    self._set_alarm(key, await self._look(key))
                except ClusterError as error:
                    RECONCILE_ERRORS.labels(type(error).__name__).inc()
                    asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
                    log.warning("looking at %s %s: %s; again soon", self._name, key, error)
                # One object must not keep the operator from the others, whatever is wrong with it.
                except Exception as error:
                    RECONCILE_ERRORS.labels(type(error).__name__).inc()
                    asked = None
                    log.exception("looking at %s %s failed; again soon", self._name, key)
                else:
                    pause = _FIRST_PAUSE_SECONDS
                    continue
                await asyncio.sleep(asked or _some(pause))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                self._dirty.add(key)
        finally:
            self._running.pop(key, None)
            if key in self._dirty and not self._closed:
                self.kick(key)

    def _set_alarm(self, key: _K, when: float | None) -> None:
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.cancel()
        if when is not None and not self._closed:

            def ring() -> None:
                self._alarms.pop(key, None)
                self.kick(key)

            self._alarms[key] = asyncio.get_running_loop().call_at(when, ring)


class Background:
    """Small things done beside, which nobody waits for; each is tried until it succeeds or makes no sense."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self, work: Callable[[], Awaitable[object]], what: str, *, attempts: int | None = 8
    ) -> asyncio.Task[None]:
        """Do something that may be done twice.

        Args:
            work: that is done; tried again while the API server does not answer.
            what: it is, for the log.
            attempts: after so many it is given up; None: never.
        """
        task = asyncio.get_running_loop().create_task(self._try(work, what, attempts), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, seconds: float = 2.0) -> None:
        """Give what is under way a moment to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _try(work: Callable[[], Awaitable[object]], what: str, attempts: int | None) -> None:
        pause = _FIRST_PAUSE_SECONDS
        for attempt in itertools.count(1):
            try:
                await work()
            except Unavailable as error:
                if attempt == attempts:
                    log.warning("%s: given up: %s", what, error)
                    return
                await asyncio.sleep(error.retry_after_seconds or _some(pause))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            except ClusterError as error:
                log.warning("%s: refused: %s", what, error)
                return
            else:
                return
