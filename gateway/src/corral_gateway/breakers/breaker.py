"""One circuit breaker. Pure: the time, of a clock that never goes back, is passed in.

Closed, everything goes through, and the last outcomes are remembered; open, nothing does for a while; half open, a
few try for all others. A probe that never comes back is given up after a time, so that another may try.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long."""

    #: It opens when so many of the last ``window`` outcomes failed.
    failures: int = 5
    window: int = 10
    open_seconds: float = 30.0
    #: So many may try at once when it is half open, and so many must succeed for it to close.
    probes: int = 1
    #: A probe that has not come back after so long is counted no more: tasks may run for hours.
    probe_seconds: float = 120.0


class Breaker:
    """The breaker of one thing. Its size does not grow."""

    __slots__ = ("_open_until", "_outcomes", "_probes", "_rules", "_successes")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        #: The last outcomes, newest last; True: failed.
        self._outcomes: tuple[bool, ...] = ()
        #: None: closed.
        self._open_until: float | None = None
        #: When each probe that is out began, by who it is.
        self._probes: dict[str, float] = {}
        self._successes = 0

    def state(self, now: float) -> State:
        """Return how it stands."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def admit(self, who: str, now: float) -> float | None:
        """Let one through, or not.

        Args:
            who: a name that ``succeeded``, ``failed`` or ``withdrawn`` tells again.
            now: seconds.

        Returns:
            None: it goes through. Else seconds after which it is worth to ask again.
        """
        match self.state(now):
            case State.CLOSED:
                return None
            case State.OPEN:
                assert self._open_until is not None
                return self._open_until - now
            case State.HALF_OPEN:
                late = now - self._rules.probe_seconds
                self._probes = {one: began for one, began in self._probes.items() if began > late}
                if len(self._probes) < self._rules.probes:
                    self._probes[who] = now
                    return None
                return max(1.0, min(self._probes.values()) - late)

    def succeeded(self, who: str, now: float) -> None:
        """Note an outcome that was none of our failures. One from before it opened says nothing."""
        if self.state(now) is State.CLOSED:
            self._remember(failed=False)
        elif self._probes.pop(who, None) is not None:
            self._successes += 1
            if self._successes >= self._rules.probes:
                self._close()

    def failed(self, who: str, now: float) -> None:
        """Note a failure of ours."""
        match self.state(now):
            case State.CLOSED:
                self._remember(failed=True)
                if sum(self._outcomes) >= self._rules.failures:
                    self._open(now)
            case State.HALF_OPEN if self._probes.pop(who, None) is not None:
                self._open(now)

    def withdrawn(self, who: str) -> None:
        """Forget one that was let through and never ran."""
        self._probes.pop(who, None)

    def _remember(self, *, failed: bool) -> None:
        self._outcomes = (*self._outcomes, failed)[-self._rules.window :]

    def _open(self, now: float) -> None:
        self._open_until = now + self._rules.open_seconds
        self._outcomes, self._probes, self._successes = (), {}, 0

    def _close(self) -> None:
        self._open_until = None
        self._outcomes, self._probes, self._successes = (), {}, 0
