"""Places to run in, for callers in their turn."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral_gateway.tasks.fair_queue import FairQueue, NoPlaceError
from corral_gateway.tasks.port import NoCapacityError
from corral_gateway.tasks.throughput import Throughput


class Ticket:
    """A task that waits for its place, or has it."""

    __slots__ = ("caller", "needs_none", "turn")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        #: Done when it need not wait any more.
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: It was cancelled while it waited, and ends without a place.
        self.needs_none = False


class Places:
    """The places of one gateway. Of one event loop."""

    def __init__(self, places: int, most_waiting: int, most_waiting_each: int) -> None:
        self._queue: FairQueue[Ticket] = FairQueue(places, most_waiting, most_waiting_each)
        self._throughput = Throughput()
        self._held_back = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._queue.waiting

    @property
    def running(self) -> int:
        """How many places are taken."""
        return self._queue.running

    def hold_back(self) -> None:
        """Give no place to anybody, until ``go_on``."""
        self._held_back = True

    def go_on(self) -> None:
        """Give places again."""
        self._held_back = False
        self._serve()

    def join(self, caller: str, priority: int, *, promised: bool = False) -> Ticket:
        """Get in line, before anything is kept of a task. What is returned is ``held``, or given back.

        Args:
            caller: whose line.
            priority: among their own.
            promised: it was taken in before, so it waits however many do.

        Raises:
            NoCapacityError: too many wait, of this caller or of all.
        """
        ticket = Ticket(caller)
        try:
            self._queue.join(caller, ticket, priority, promised=promised)
        except NoPlaceError as refused:
            after = self._throughput.retry_after_seconds(refused.waiting, time.monotonic())
            raise NoCapacityError(after, own=refused.own) from None
        self._serve()
        return ticket

    @asynccontextmanager
    async def held(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for the place, and hold it meanwhile."""
        try:
            await ticket.turn
            yield
        finally:
            self.give_back(ticket)

    def cancel(self, ticket: Ticket) -> None:
        """Let a task that waits go on at once, without a place: all that it has left to do is to end."""
        if not ticket.needs_none and self._queue.give_up(ticket.caller, ticket):
            ticket.needs_none = True
            ticket.turn.set_result(None)

    def give_back(self, ticket: Ticket) -> None:
        """Leave the line, or give the place back."""
        if ticket.needs_none:
            return
        ticket.needs_none = True
        if not self._queue.give_up(ticket.caller, ticket):
            self._queue.leave(ticket.caller)
            self._throughput.ended(time.monotonic())
        self._serve()

    def _serve(self) -> None:
        if self._held_back:
            return
        for ticket in self._queue.serve():
            if not ticket.turn.done():  # who waited may have been cancelled just now: ``held`` gives it back
                ticket.turn.set_result(None)
