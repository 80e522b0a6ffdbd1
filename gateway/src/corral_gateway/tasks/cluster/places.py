"""The numbers of events in a cluster. Pure.

Nobody keeps the events of a task there: while its sandbox lives its runner tells them, afterwards the status does. So
the number of an event says how far its reader is, in terms that both know: which execution, which attempt, how many
characters of each stream. Whichever gateway is asked, and whenever, the same event has the same number, and a reader
who comes back is told exactly what is after it. Numbers grow; they do not count.
"""

from dataclasses import dataclass, fields
from typing import Self

#: Bits of each part, the most telling first. 64 steps; 10 attempts; 64 Mi characters; ten thousand reports a day.
_BITS = {"execution": 8, "attempt": 8, "stage": 2, "stdout": 28, "stderr": 28, "progress": 16}
_ALL_BITS = sum(_BITS.values())

#: Stages of an execution: nothing was told; that it started was; that it ended was.
STARTED, ENDED = 1, 2


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """How far a reader is. None of its parts ever falls while those before it stay, so numbers grow."""

    #: From 0, in the order of the spec; one more than there are: the task has finished.
    execution: int = 0
    attempt: int = 0
    stage: int = 0
    #: Characters that were told of each stream.
    stdout: int = 0
    stderr: int = 0
    #: Reports that were told.
    progress: int = 0

    @property
    def number(self) -> int:
        """The place as a number. A part that does not fit stays at its highest."""
        number = 0
        for field in fields(self):
            bits = _BITS[field.name]
            number = number << bits | min(getattr(self, field.name), (1 << bits) - 1)
        return number

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the place of a number; of one that no event has, some place near it."""
        number = min(number, (1 << _ALL_BITS) - 1)
        parts = {}
        for name, bits in reversed(_BITS.items()):
            parts[name] = number & ((1 << bits) - 1)
            number >>= bits
        return cls(**parts)
