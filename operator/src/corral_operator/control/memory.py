"""What is remembered of a task beside its status. Lost with the operator, and the task none the worse for it."""

from dataclasses import dataclass, field
from datetime import datetime

from corral_operator.decisions.observed import Kept, Printed, Refusal

#: An execution's name and its attempt.
Attempt = tuple[str, int]


@dataclass(slots=True)
class TaskMemory:
    """One task's, as long as this operator looks after it."""

    #: When this operator first saw it.
    seen: datetime
    #: Whether the last write succeeded is not known: the task is read before anything else is decided.
    unsure: bool = False
    #: The API server refused even the shortest end of it; nothing is tried before then.
    refused_until: datetime | None = None
    #: Attempts whose pod this operator wrote into the status before it made it.
    assigned: set[Attempt] = field(default_factory=set)
    #: Attempts whose pod was made.
    made: set[Attempt] = field(default_factory=set)
    #: Attempts whose pod was refused.
    refusals: dict[Attempt, Refusal] = field(default_factory=dict)
    #: Names of pods that were asked for and do not exist.
    absent: set[str] = field(default_factory=set)
    #: What programs in images without a runner printed.
    logs: dict[Attempt, Printed] = field(default_factory=dict)
    #: How often the log of a program that has ended could not be read.
    unread: dict[Attempt, int] = field(default_factory=dict)
    #: What of its status the artifact store was given.
    kept: dict[Attempt, Kept] = field(default_factory=dict)
    #: Tools that the API server was asked for.
    looked_up: set[str] = field(default_factory=set)
    #: When the position in a queue was last told.
    position_told: datetime | None = None
