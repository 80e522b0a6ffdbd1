"""How fast a pool makes sandboxes: a token bucket while all is well, ever longer pauses while they fail to start."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import floor

from corral.api import Refill

#: The first pause after a failure, and the longest: as a kubelet's for a container that crashes
#: (``MaxContainerBackOff``, pkg/kubelet/kubelet.go), begun sooner because a pool's sandboxes are waited for.
_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 300.0
#: So close to a whole token that the difference is rounding.
_NEARLY = 1e-6


@dataclass(frozen=True, slots=True)
class RefillBucket:
    """How many sandboxes may be made at once, and since when that is known."""

    tokens: float
    at: datetime

    @classmethod
    def full(cls, refill: Refill, now: datetime) -> "RefillBucket":
        """Return the bucket of a pool that has made none."""
        return cls(float(refill.burst), now)

    def at_time(self, refill: Refill, now: datetime) -> "RefillBucket":
        """Return the bucket as it stands at a time. A clock that was set back fills nothing."""
        elapsed = max(0.0, (now - self.at).total_seconds())
        return RefillBucket(min(float(refill.burst), self.tokens + elapsed * refill.per_second), now)

    @property
    def whole(self) -> int:
        """How many may be made now."""
        return floor(self.tokens + _NEARLY)

    def take(self, count: int) -> "RefillBucket":
        """Return what is left after so many were made."""
        return replace(self, tokens=max(0.0, self.tokens - count))

    def next_at(self, refill: Refill) -> datetime:
        """Return when the next one may be made."""
        seconds = max(0.0, 1.0 - self.tokens) / refill.per_second
        return self.at + timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pool's sandboxes do not come up, and how often in a row that was so."""

    failures: int
    #: When the last failure was noticed.
    at: datetime
    #: A reason for the pool's condition, and what to tell people.
    reason: str
    message: str

    @property
    def retry_at(self) -> datetime:
        """Return when the next one may be tried."""
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1), _LONGEST_PAUSE_SECONDS)
        return self.at + timedelta(seconds=pause)


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What a pool's decisions remember from one to the next. Lost with the operator, and none the worse for it."""

    bucket: RefillBucket
    trouble: Trouble | None = None
    #: Since when sandboxes are missing that tasks took.
    short_since: datetime | None = None
    #: Creation time of the newest pod seen, by the API server's clock.
    newest: datetime | None = None
    #: The same when the last failure was noticed. What is as old belongs to that failure, so that ten that fail
    #: together are one; what is newer and ready shows that all is well again.
    newest_at_failure: datetime | None = None

    def failed(self, reason: str, message: str, now: datetime) -> "PoolMemory":
        """Return the memory after a failure more: a sandbox that did not come up, or one the API server refused."""
        failures = self.trouble.failures + 1 if self.trouble is not None else 1
        trouble = Trouble(min(failures, 32), now, reason, message)
        return replace(self, trouble=trouble, newest_at_failure=self.newest)
