"""uvicorn, with an end that is told to both doors at once, and during which it still answers."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from corral_gateway.ending import Ending

log = logging.getLogger(__name__)


class HttpServer(uvicorn.Server):
    """Serves HTTP to the end that a signal begins. A second signal ends the patience, a third one the process."""

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        super().__init__(config)
        self._ending = ending
        self._signals = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals; see ``uvicorn.Server``, which sends itself the signal once more at its end.

        That would kill the process before its sandboxes are ended and its database is closed.
        """
        self._loop = asyncio.get_running_loop()
        before = {one: signal.signal(one, self.handle_exit) for one in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Take a signal in."""
        self._signals += 1
        self.should_exit = True
        if self._signals > 2:  # it does not get to its end; whoever sends three wants no more of it
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        elif self._signals > 1:
            self._loop.call_soon_threadsafe(self._hurry)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; see ``uvicorn.Server``. New connections are taken until there is nothing to be told any more."""
        # Each answer ends its connection from now on: who asks again may find another gateway behind a balancer.
        self.config.encoded_headers.append((b"connection", b"close"))
        ticking = asyncio.get_running_loop().create_task(self._tick_for_ever())
        try:
            await self._ending.end()
        # Whatever it is: what comes after it signs the audit.
        except Exception:
            log.exception("the gateway could not end as it should")
        finally:
            ticking.cancel()
        await super().shutdown(sockets)

    async def _tick_for_ever(self) -> None:
        """Keep the date of answers right, which uvicorn does only until it is told to end."""
        while True:
            await self.on_tick(0)
            await asyncio.sleep(1)

    def _hurry(self) -> None:
        self.config.timeout_graceful_shutdown = 1
        self._ending.hurry()
