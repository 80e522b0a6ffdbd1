"""Counts of requests in sliding windows, in this process. Pure: the time is passed in.

The `limits` library's own storage in memory looks at every key it has with each hit (39 ms a request with 100,000
callers); this one takes some microseconds, whatever their number. The rule is the library's sliding window counter:
the window before counts by the part of it that still lies within reach.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from limits import RateLimitItem

LimitKind = Literal["caller", "route", "tool", "global"]
#: A moment later than a window's end, so that who comes at the time they were told is let through.
_AFTER_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that a request is held against."""

    kind: LimitKind
    #: Whose count it is: no two limits of one kind share one.
    key: str
    rate: RateLimitItem
    #: For people, such as ``the tool calculator``.
    whose: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands with a limit."""

    limit: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """What a caller is told with every answer."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A request is one too many for a limit. It was counted nowhere."""

    limit: Limit
    standing: Standing


class Windows:
    """Counts by window length. A key that was not used for two windows is forgotten, without looking for it."""

    def __init__(self) -> None:
        self._generations: dict[int, _Generations] = {}

    def __len__(self) -> int:
        """How many counts are kept."""
        return sum(len(one.now) + len(one.before) for one in self._generations.values())

    def hit(self, limits: Sequence[Limit], now: float) -> Standing | Exceeded:
        """Count a request against all of some limits, or, where one of them is used up, against none.

        Args:
            limits: at least one.
            now: seconds of a clock that never goes back.

        Returns:
            Where it stands with the limit that has least left.
        """
        nearest: Standing | None = None
        for limit in limits:
            standing, free = self._look(limit, now)
            if not free:
                return Exceeded(limit, standing)
            if nearest is None or standing.remaining < nearest.remaining:
                nearest = standing
        for limit in limits:
            counts = self._generations[limit.rate.get_expiry()].now
            counts[limit.key] = counts.get(limit.key, 0) + 1
        assert nearest is not None
        return nearest

    def _look(self, limit: Limit, now: float) -> tuple[Standing, bool]:
        amount, seconds = limit.rate.amount, limit.rate.get_expiry()
        generations = self._generations.get(seconds)
        if generations is None:
            generations = self._generations[seconds] = _Generations()
        number, passed = divmod(now, seconds)
        generations.turn(int(number))
        before, count = generations.before.get(limit.key, 0), generations.now.get(limit.key, 0)
        weighted = math.floor(before * (1 - passed / seconds) + count)
        if weighted < amount:
            return Standing(amount, amount - weighted - 1, max(1, math.ceil(seconds - passed))), True
        # One is free again as soon as enough of the window before lies out of reach; at the latest after this one.
        until = seconds * (1 - (amount - count) / before) if 0 < amount - count <= before else seconds
        wait = max(until, passed) - passed + _AFTER_SECONDS
        return Standing(amount, 0, max(1, math.ceil(wait))), False


class _Generations:
    """The counts of this window and of the one before."""

    __slots__ = ("before", "now", "number")

    def __init__(self) -> None:
        self.number = -1
        self.now: dict[str, int] = {}
        self.before: dict[str, int] = {}

    def turn(self, number: int) -> None:
        if number != self.number:
            self.before = self.now if number == self.number + 1 else {}
            self.now = {}
            self.number = number
