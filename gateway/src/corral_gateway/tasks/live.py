"""A task of this process that has not ended: what has happened to it, and who waits for more."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from corral.api import AgentTask, AgentTaskStatus, Condition, ConditionStatus, Frame, Phase
from corral_gateway.tasks.events import Event, of_frame
from corral_gateway.tasks.places import Ticket


@dataclass(slots=True)
class LiveTask:
    """Changed by the one coroutine that runs it; read by all that follow it."""

    task: AgentTask
    caller: str
    ticket: Ticket
    work: "asyncio.Task[None] | None" = None
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    #: The gateway ends; if it waits for its turn, it does not begin here any more.
    is_left: bool = False
    #: The database says that it runs: it runs never again, whatever comes between.
    says_running: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    #: All of them: they are no more than what its tools may print.
    events: list[Event] = field(default_factory=list)
    #: How many of them the database has. Nobody is shown more: an event that was told keeps its number for ever.
    kept: int = 0
    #: How many follow it now.
    readers: int = 0
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set, and replaced, with each event.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set, and replaced, whenever more of them are kept, and at the end.
    told: asyncio.Event = field(default_factory=asyncio.Event)
    #: How it stands; None while it waits for its turn.
    status: AgentTaskStatus | None = None
    #: The status has changed since it was written down.
    status_is_new: bool = False
    #: What its executions brought back, by execution and path.
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event."""
        self.events.append(Event(len(self.events) + 1, kind, data))
        self._wake()

    def hear(self, execution: str, frame: Frame) -> None:
        """Take in what a runner says."""
        event = of_frame(execution, frame)
        if event is not None:
            self.tell(*event)

    def stand(self, status: AgentTaskStatus) -> None:
        """Take in how it stands."""
        self.status, self.status_is_new = status, True
        self._wake()

    def keep_file(self, execution: str, path: str, data: bytes) -> None:
        """Take in a file that came back."""
        self.files[execution, path] = data

    def show(self, count: int) -> None:
        """Let readers have the events up to a number: they are kept."""
        self.kept = count
        told, self.told = self.told, asyncio.Event()
        told.set()

    def as_it_stands(self) -> AgentTask:
        """Return the task with its status."""
        return as_it_waits(self.task.model_copy(update={"status": self.status}))

    def _wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def as_it_waits(task: AgentTask) -> AgentTask:
    """Return a task; if nothing is known of it yet, with the status of one that waits for its turn."""
    return task if task.status is not None else task.model_copy(update={"status": _waiting(task)})


def _waiting(task: AgentTask) -> AgentTaskStatus:
    """Return the status of a task that waits for its turn, as the operator has it."""
    taken_in = task.metadata.creation_timestamp or ""
    message = "it waits until another task ends"
    return AgentTaskStatus(
        phase=Phase.PENDING,
        message=message,
        conditions=(
            _condition("Accepted", ConditionStatus.TRUE, "Accepted", "", taken_in),
            _condition("Started", ConditionStatus.FALSE, "WaitingForSandbox", message, taken_in),
        ),
    )


def _condition(kind: str, status: ConditionStatus, reason: str, message: str, since: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=since)
