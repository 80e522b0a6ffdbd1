"""The time, on a clock that nobody sets."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The wall clock as it was at the start, and from then on the monotonic one.

    A step of the machine's clock thereby moves no deadline and ends no task.
    """

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        """Return the time."""
        return self._wall + timedelta(seconds=time.monotonic() - self._monotonic)

    def loop_time(self, moment: datetime) -> float:
        """Return when a moment is on the event loop's clock, which is the monotonic one."""
        return self._monotonic + (moment - self._wall).total_seconds()
