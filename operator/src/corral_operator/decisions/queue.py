"""Who of the waiting executions of a pool gets the next sandbox. Pure."""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """An execution that waits for a sandbox of a pool."""

    task_uid: str
    task_name: str
    execution: str
    #: Who asked; empty for tasks applied by hand, which share one turn.
    caller: str
    priority: int
    #: When it began to wait.
    queued: datetime


@dataclass(frozen=True, slots=True)
class CallerShare:
    """What a caller has had of a pool."""

    #: Sandboxes that run its executions now.
    running: int = 0
    #: When it last got one; None: never.
    last_served: datetime | None = None


def order(
    waiting: Iterable[QueueEntry], shares: Mapping[str, CallerShare] | None = None
) -> tuple[QueueEntry, ...]:
    """Return the order in which they are served.

    Callers take turns: whoever has the fewest sandboxes, those that it is given on the way included, is next; of
    several, the one that was served longest ago, then the one whose next execution waits longest. Among a caller's own
    the higher priority goes first, then the longest wait. So a caller with a thousand tasks of whatever priority holds
    up another's first by one sandbox, not by a thousand.
    """
    shares = shares or {}
    queues: dict[str, deque[QueueEntry]] = defaultdict(deque)
    for entry in sorted(waiting, key=lambda entry: (-entry.priority, _age(entry))):
        queues[entry.caller].append(entry)
    load = {caller: shares[caller].running if caller in shares else 0 for caller in queues}
    heap = [
        (load[caller], _last_served(shares, caller), _age(queue[0]), caller)
        for caller, queue in queues.items()
    ]
    heapq.heapify(heap)
    result: list[QueueEntry] = []
    while heap:
        _, served, _, caller = heapq.heappop(heap)
        result.append(queues[caller].popleft())
        load[caller] += 1
        if queues[caller]:
            heapq.heappush(heap, (load[caller], served, _age(queues[caller][0]), caller))
    return tuple(result)


def positions(ordered: Sequence[QueueEntry]) -> dict[tuple[str, str], int]:
    """Return the position of each, from 1, by task UID and execution."""
    return {(entry.task_uid, entry.execution): place for place, entry in enumerate(ordered, start=1)}


def _last_served(shares: Mapping[str, CallerShare], caller: str) -> datetime:
    share = shares.get(caller)
    return share.last_served or _NEVER if share is not None else _NEVER


def _age(entry: QueueEntry) -> tuple[datetime, str, str, str]:
    return entry.queued, entry.task_name, entry.execution, entry.task_uid
