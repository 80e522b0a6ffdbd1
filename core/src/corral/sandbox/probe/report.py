"""What the probe says: a list of things looked at, and whether a tool can run."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How much of it there is."""

    OK = "ok"
    WEAKER = "weaker"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    #: What is there.
    found: str
    #: What follows from it for sandboxes; empty where nothing needs to be said.
    consequence: str = ""
    #: What to do about it; may have several lines.
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    #: A tool ran in a sandbox.
    usable: bool
    #: The layers that held while it ran.
    isolation: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def missing(self) -> tuple[Check, ...]:
        """What keeps tasks from running."""
        return tuple(check for check in self.checks if check.state is State.MISSING)

    @property
    def weaker(self) -> tuple[Check, ...]:
        """What isolates less than it could."""
        return tuple(check for check in self.checks if check.state is State.WEAKER)
