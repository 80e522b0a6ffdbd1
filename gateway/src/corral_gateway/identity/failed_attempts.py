"""How often somebody may send what opens nothing. Bounded in memory, whoever tries. Pure but for the time given in.

Who has a good credential is never kept out by what others at the same address send.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from corral_gateway.serving.addresses import network_of

#: The source that has not been heard of for longest is forgotten for a new one.
_MOST_SOURCES = 10_000


@dataclass(slots=True)
class _Window:
    began: float
    count: int


class FailedAttempts:
    """Counts by source."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def note(self, source: str, now: float) -> int:
        """Count a failure. Returns how many there were in this window, this one among them."""
        name = network_of(source)
        window = self._windows.get(name)
        if window is None or now - window.began >= self._seconds:
            window = self._windows[name] = _Window(now, 0)
        self._windows.move_to_end(name)
        if len(self._windows) > _MOST_SOURCES:
            self._windows.popitem(last=False)
        window.count += 1
        return window.count

    def wait_seconds(self, source: str, now: float) -> int:
        """Return in how many seconds a source may try again; 0: now."""
        window = self._windows.get(network_of(source))
        if window is None or window.count < self._most or now - window.began >= self._seconds:
            return 0
        return max(1, math.ceil(window.began + self._seconds - now))
