"""How fast places become free, and so when it is worth to ask again. Pure: the time is passed in."""

import math
from collections import deque

#: What was longer ago says little of now.
_WINDOW_SECONDS = 60.0
#: So many ends tell a rate well enough.
_MOST = 256
#: Told while nothing has ended yet: a task of default limits may take so long, most take far less.
_UNKNOWN_SECONDS = 5
_LONGEST_SECONDS = 300


class Throughput:
    """The ends of the last minute."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_MOST)

    def ended(self, now: float) -> None:
        """Note that a place became free."""
        self._ends.append(now)

    def retry_after_seconds(self, waiting: int, now: float) -> int:
        """Return when one place of those that so many wait for is likely to be free.

        Args:
            waiting: how many wait before.
            now: seconds of the clock that ``ended`` was told.
        """
        while self._ends and self._ends[0] < now - _WINDOW_SECONDS:
            self._ends.popleft()
        if not self._ends:
            return _UNKNOWN_SECONDS
        rate = len(self._ends) / max(now - self._ends[0], 1.0)
        # A place in the queue is free when one of those before is served, not when all are: but who comes back
        # wants to be let in then, with others who were told the same. A tenth of the queue is a fair guess.
        return max(1, min(_LONGEST_SECONDS, math.ceil((1 + waiting / 10) / rate)))
