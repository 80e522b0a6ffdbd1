"""Who waits in front of a cluster: so many in all, of one caller fewer, and one more is refused at once."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from corral_gateway.tasks.port import NoCapacityError
from corral_gateway.tasks.throughput import Throughput


class Waiting:
    """Counts tasks that have no sandbox yet: what the watch tells of, and what is on its way to the API server.

    Every gateway in front of the same namespaces counts the same, within the milliseconds that a watch needs.
    """

    def __init__(self, most: int, most_each: int) -> None:
        """Count nobody.

        Args:
            most: may wait in all, those of kubectl among them.
            most_each: of them, those of one caller.
        """
        self._most = most
        self._most_each = most_each
        self._told: Counter[str] = Counter()
        self._coming: Counter[str] = Counter()
        self._throughput = Throughput()

    @property
    def count(self) -> int:
        """How many wait, as far as the watch tells."""
        return self._told.total()

    @property
    def callers(self) -> int:
        """How many callers have tasks that wait, or that are on their way."""
        return len(self._told.keys() | self._coming.keys())

    def began(self, caller: str) -> None:
        """Note a task that waits."""
        self._told[caller] += 1

    def ended(self, caller: str) -> None:
        """Note one that has a sandbox now, or needs none any more."""
        _take(self._told, caller)
        self._throughput.ended(time.monotonic())

    @contextmanager
    def joining(self, caller: str) -> Iterator[None]:
        """Let a task join, unless too many wait; hold its place until the watch, or whoever made it, counts it.

        Args:
            caller: whose it is, as the label has it.

        Raises:
            NoCapacityError: too many wait, of this caller or of all.
        """
        waiting = self._told.total() + self._coming.total()
        if waiting >= self._most:
            raise NoCapacityError(self._retry_after_seconds(waiting))
        own = self._told[caller] + self._coming[caller]
        if own >= self._most_each:
            raise NoCapacityError(self._retry_after_seconds(own), own=True)
        self._coming[caller] += 1
        try:
            yield
        finally:
            _take(self._coming, caller)

    def _retry_after_seconds(self, waiting: int) -> int:
        return self._throughput.retry_after_seconds(waiting, time.monotonic())


def _take(counts: Counter[str], caller: str) -> None:
    counts[caller] -= 1
    if not counts[caller]:
        del counts[caller]
