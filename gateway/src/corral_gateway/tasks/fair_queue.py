"""Who goes next when many want a place: the caller who has least, in their own order. Pure.

Places are shared by what each caller holds now, not by who came first: of the callers that wait, the one with the
fewest places goes next, and among equals the one who has not been served for longest. So whoever fills the queue
waits behind themselves, and another's first task goes before their thousandth.
"""

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_T = TypeVar("_T")


class NoPlaceError(Exception):
    """As many wait as may: of this caller, or of all."""

    def __init__(self, waiting: int, *, own: bool) -> None:
        #: How many wait before one that would come now: the caller's own, or everybody's.
        self.waiting = waiting
        self.own = own
        super().__init__("no place")


@dataclass(slots=True)
class _Caller(Generic[_T]):
    """What one caller holds and waits with."""

    running: int = 0
    #: Turn at which they were served last.
    served: int = 0
    #: By priority, the highest first, then by arrival.
    waiting: list[tuple[int, int, _T]] = field(default_factory=list)


class FairQueue(Generic[_T]):
    """Places, and who waits for one. Callers who neither hold nor wait are forgotten."""

    def __init__(self, places: int, most_waiting: int, most_waiting_each: int) -> None:
        self._places = places
        self._most_waiting = most_waiting
        self._most_waiting_each = most_waiting_each
        self._callers: dict[str, _Caller[_T]] = {}
        self._running = 0
        self._waiting = 0
        self._arrivals = 0
        self._turns = 0

    @property
    def running(self) -> int:
        """How many places are taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    @property
    def callers(self) -> int:
        """How many callers hold a place or wait."""
        return len(self._callers)

    def join(self, caller: str, item: _T, priority: int = 0, *, promised: bool = False) -> None:
        """Wait for a place; ``serve`` says when there is one. One that was ``promised`` waits however many do.

        Raises:
            NoPlaceError: too many wait. Nothing was kept.
        """
        mine = self._callers.get(caller)
        own = len(mine.waiting) if mine is not None else 0
        # What finds a free place does not wait; that nobody does then, serving at once has seen to.
        if not promised and self._running + self._waiting >= self._places:
            if self._running + self._waiting >= self._places + self._most_waiting:
                raise NoPlaceError(self._waiting, own=False)
            if own >= self._most_waiting_each:
                raise NoPlaceError(own, own=True)
        if mine is None:
            # As if just served: who comes and goes gains nothing over who stays.
            mine = self._callers[caller] = _Caller(served=self._turns)
        heapq.heappush(mine.waiting, (-priority, self._arrivals, item))
        self._arrivals += 1
        self._waiting += 1

    def serve(self) -> list[_T]:
        """Give away every free place, and return who got one, in that order. Call it after each change."""
        served = []
        while self._waiting and self._running < self._places:
            mine = min(
                (one for one in self._callers.values() if one.waiting),
                key=lambda one: (one.running, one.served),
            )
            served.append(heapq.heappop(mine.waiting)[2])
            self._turns += 1
            mine.served = self._turns
            mine.running += 1
            self._running += 1
            self._waiting -= 1
        return served

    def leave(self, caller: str) -> None:
        """Give back a place."""
        mine = self._callers[caller]
        mine.running -= 1
        self._running -= 1
        self._forget(caller, mine)

    def give_up(self, caller: str, item: _T) -> bool:
        """Wait no longer. Returns whether it waited; else it holds a place by now."""
        mine = self._callers.get(caller)
        if mine is None:
            return False
        left = [one for one in mine.waiting if one[2] is not item]
        if len(left) == len(mine.waiting):
            return False
        heapq.heapify(left)
        mine.waiting = left
        self._waiting -= 1
        self._forget(caller, mine)
        return True

    def _forget(self, caller: str, mine: _Caller[_T]) -> None:
        if not mine.running and not mine.waiting:
            del self._callers[caller]
