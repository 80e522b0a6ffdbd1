"""What a gateway does between the signal that ends it and the end: nothing that it took in is lost.

First it says that it is not ready, then it takes nothing new in, lets run what runs, and at last cancels what is left.
Its sockets stay open meanwhile: who waits, follows or asks again and again is told how their tasks ended.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from corral_gateway.life import Life, Stage, Waiters

log = logging.getLogger(__name__)

#: After the grace: to cancel what still runs, to answer whoever waited for it, and to sign the audit. What kills a
#: gateway that does not end (systemd, a kubelet) must wait for the drain, the grace, and so long.
LAST_SECONDS = 10
_ANSWER_SECONDS = 3.0


class Work(Protocol):
    """Of ``Executor``, what it takes to end."""

    def hand_over(self) -> None:
        """Begin nothing any more."""
        ...

    async def idle(self) -> None:
        """Return when nothing runs here."""
        ...

    async def cut_off(self) -> None:
        """End what runs here."""
        ...


class Calls(Protocol):
    """Of the gRPC server, what it takes to end."""

    async def is_ending(self) -> None:
        """Say that nobody should be sent here."""
        ...

    async def close(self, grace_seconds: float) -> None:
        """Take no calls, and end when those that run have ended, or after so many seconds."""
        ...


class Ending:
    """The end of one gateway."""

    def __init__(
        self,
        life: Life,
        work: Work,
        waiters: Waiters,
        calls: Calls | None,
        *,
        drain_seconds: float,
        grace_seconds: float,
    ) -> None:
        self._life = life
        self._work = work
        self._waiters = waiters
        self._calls = calls
        self._drain_seconds = drain_seconds
        self._grace_seconds = grace_seconds
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Wait for nothing any more. What is cut off is written down all the same."""
        self._hurried.set()

    async def end(self) -> None:
        """Bring everything to its end but what the application's own end does: the audit comes last."""
        self._life.stage = Stage.DRAINING
        if self._calls is not None:
            await self._calls.is_ending()
        await self._unless_hurried(asyncio.sleep(self._drain_seconds), self._drain_seconds)
        log.info("ending: nothing new is taken in; what runs has %g seconds", self._grace_seconds)
        self._life.stage = Stage.ENDING
        self._work.hand_over()
        loop = asyncio.get_running_loop()
        closing = None
        if self._calls is not None:
            closing = loop.create_task(self._calls.close(self._grace_seconds + LAST_SECONDS))
        if not await self._unless_hurried(self._done(), self._grace_seconds):
            log.warning("ending: the time is over; what still runs is cancelled")
        await self._work.cut_off()
        self._waiters.let_go()
        if closing is not None and self._calls is not None:
            await self._calls.close(_ANSWER_SECONDS)
            await closing

    async def _done(self) -> None:
        await self._work.idle()
        await self._waiters.nobody()

    async def _unless_hurried(self, work: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Wait for something, for so many seconds at most, or until it is hurried. Returns whether it is done."""
        loop = asyncio.get_running_loop()
        working, hurried = loop.create_task(work), loop.create_task(self._hurried.wait())
        done, rest = await asyncio.wait(
            [working, hurried], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for one in rest:
            one.cancel()
        return working in done
