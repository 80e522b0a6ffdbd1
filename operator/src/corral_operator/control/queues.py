"""Who waits for a sandbox of which pool, in which order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from corral_operator.decisions.queue import CallerShare, QueueEntry, order, positions
from corral_operator.decisions.task_view import TaskView
from corral_operator.metrics import QUEUE_DEPTH

#: Namespace and name.
_Pool = tuple[str, str]
#: UID of a task, and one of its executions.
_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Order:
    """In which order a pool serves, worked out once for all who ask until something changes."""

    entries: tuple[QueueEntry, ...]
    #: From 1.
    positions: Mapping[_Place, int]


class Queues:
    """The queues of all pools. What is asked of one costs nothing for the others."""

    def __init__(self, kick_task: Callable[[str], None]) -> None:
        self._kick_task = kick_task
        self._entries: dict[_Pool, dict[_Place, QueueEntry]] = {}
        #: For which pools each task's executions wait.
        self._waits: dict[str, dict[_Pool, set[_Place]]] = {}
        self._depth = 0
        self._shares: dict[str, dict[str, CallerShare]] = {}
        #: By namespace and pool.
        self._orders: dict[str, dict[str, _Order]] = {}

    def replace(self, uid: str, task: TaskView, waiting: list[tuple[str, str]], now: datetime) -> set[str]:
        """Say for which pools executions of a task wait now.

        Returns:
            Names of the pools that somebody waits for who did not before.
        """
        joined: set[str] = set()
        wanted: dict[_Pool, set[_Place]] = {}
        for execution, pool in waiting:
            wanted.setdefault((task.key.namespace, pool), set()).add((uid, execution))
        before = self._waits.pop(uid, {})
        for where, places in before.items():
            self._leave(where, places - wanted.get(where, set()))
        for where, places in wanted.items():
            for place in places - before.get(where, set()):
                self._entries.setdefault(where, {})[place] = QueueEntry(
                    task_uid=uid,
                    task_name=task.key.name,
                    execution=place[1],
                    caller=task.caller,
                    priority=task.spec.priority if task.spec is not None else 0,
                    queued=max(task.created, now) if task.status.start_time else task.created,
                )
                self._depth += 1
                self._changed(where)
                joined.add(where[1])
        if wanted:
            self._waits[uid] = wanted
        QUEUE_DEPTH.set(self._depth)
        return joined

    def forget(self, uid: str) -> None:
        """Nothing of a task waits any more."""
        for where, places in self._waits.pop(uid, {}).items():
            self._leave(where, places)
        QUEUE_DEPTH.set(self._depth)

    def _leave(self, where: _Pool, places: set[_Place]) -> None:
        entries = self._entries.get(where, {})
        for place in places:
            del entries[place]
            self._depth -= 1
            self._changed(where)
        if not entries:
            self._entries.pop(where, None)

    def _changed(self, where: _Pool) -> None:
        namespace, pool = where
        self._orders.get(namespace, {}).pop(pool, None)

    def served(self, namespace: str, caller: str, running: Mapping[str, int], now: datetime) -> None:
        """Remember that a caller was given a sandbox, and how many each has: others come before it next."""
        before = self._shares.get(namespace, {})
        times = {name: share.last_served for name, share in before.items()} | {caller: now}
        self._shares[namespace] = {
            name: CallerShare(running.get(name, 0), times.get(name)) for name in {*times, *running}
        }
        self._orders.pop(namespace, None)

    def positions(self, uid: str) -> dict[str, int]:
        """Return the positions of a task's executions, from 1."""
        return {
            place[1]: self._order(where).positions[place]
            for where, places in self._waits.get(uid, {}).items()
            for place in places
        }

    def ahead_of(self, task: TaskView, pool: str) -> int:
        """Return how many executions of other tasks go before this task's first one; all, before it waits itself."""
        where = task.key.namespace, pool
        ordered = self._order(where)
        own = self._waits.get(task.key.uid, {}).get(where)
        if own:
            return min(ordered.positions[place] for place in own) - 1
        return len(ordered.entries)

    def waits_for(self, namespace: str, pool: str) -> bool:
        """Whether anybody waits for a pool."""
        return bool(self._entries.get((namespace, pool)))

    def kick_first(self, namespace: str, pool: str, count: int) -> None:
        """Look at the tasks that are first in line."""
        for entry in self._order((namespace, pool)).entries[:count]:
            self._kick_task(entry.task_uid)

    def pool_gone(self, namespace: str, pool: str) -> None:
        """Nobody can wait for this pool any more: let those who did look again."""
        where = namespace, pool
        for uid in dict.fromkeys(uid for uid, _ in self._entries.get(where, {})):
            self._leave(where, self._waits[uid].pop(where))
            self._kick_task(uid)
        self._changed(where)
        QUEUE_DEPTH.set(self._depth)

    def oldest(self) -> datetime | None:
        """Return since when the one that waits longest has waited."""
        return min(
            (entry.queued for entries in self._entries.values() for entry in entries.values()), default=None
        )

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()
        self._waits.clear()
        self._orders.clear()
        self._depth = 0
        QUEUE_DEPTH.set(0)

    def _order(self, where: _Pool) -> _Order:
        namespace, pool = where
        orders = self._orders.setdefault(namespace, {})
        known = orders.get(pool)
        if known is None:
            entries = order(self._entries.get(where, {}).values(), self._shares.get(namespace))
            known = orders[pool] = _Order(entries, positions(entries))
        return known
