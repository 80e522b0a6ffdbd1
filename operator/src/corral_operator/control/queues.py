"""Who waits for a sandbox of which pool, in which order."""

from collections.abc import Callable, Mapping
from datetime import datetime

from corral_operator.decisions.queue import CallerShare, QueueEntry, order
from corral_operator.decisions.task_view import TaskView
from corral_operator.metrics import QUEUE_DEPTH

_Pool = tuple[str, str]


class Queues:
    """The queues of all pools."""

    def __init__(self, kick_task: Callable[[str], None]) -> None:
        self._kick_task = kick_task
        self._entries: dict[_Pool, dict[tuple[str, str], QueueEntry]] = {}
        self._shares: dict[str, dict[str, CallerShare]] = {}
        self._orders: dict[_Pool, tuple[QueueEntry, ...]] = {}

    def replace(self, uid: str, task: TaskView, waiting: list[tuple[str, str]], now: datetime) -> None:
        """Say for which pools executions of a task wait now."""
        wanted: dict[_Pool, set[tuple[str, str]]] = {}
        for execution, pool in waiting:
            wanted.setdefault((task.key.namespace, pool), set()).add((uid, execution))
        self._drop(uid, keep=wanted)
        for where, keys in wanted.items():
            entries = self._entries.setdefault(where, {})
            for key in keys - entries.keys():
                entries[key] = QueueEntry(
                    task_uid=uid,
                    task_name=task.key.name,
                    execution=key[1],
                    caller=task.caller,
                    priority=task.spec.priority if task.spec is not None else 0,
                    queued=max(task.created, now) if task.status.start_time else task.created,
                )
                self._orders.pop(where, None)
        QUEUE_DEPTH.set(self._depth())

    def forget(self, uid: str) -> None:
        """Nothing of a task waits any more."""
        self._drop(uid, keep={})
        QUEUE_DEPTH.set(self._depth())

    def _drop(self, uid: str, keep: Mapping[_Pool, set[tuple[str, str]]]) -> None:
        for pool, entries in self._entries.items():
            for key in [key for key in entries if key[0] == uid and key not in keep.get(pool, ())]:
                del entries[key]
                self._orders.pop(pool, None)

    def _depth(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def served(self, namespace: str, caller: str, running: Mapping[str, int], now: datetime) -> None:
        """Remember that a caller was given a sandbox, and how many each has: others come before it next."""
        before = self._shares.get(namespace, {})
        times = {name: share.last_served for name, share in before.items()} | {caller: now}
        self._shares[namespace] = {
            name: CallerShare(running.get(name, 0), times.get(name)) for name in {*times, *running}
        }
        self._orders = {pool: kept for pool, kept in self._orders.items() if pool[0] != namespace}

    def positions(self, uid: str) -> dict[str, int]:
        """Return the positions of a task's executions, from 1."""
        return {
            entry.execution: place
            for pool in self._entries
            for place, entry in enumerate(self._order(pool), start=1)
            if entry.task_uid == uid
        }

    def ahead_of(self, task: TaskView, pool: str) -> int:
        """Return how many executions of other tasks go before this task's first one."""
        ordered = self._order((task.key.namespace, pool))
        for place, entry in enumerate(ordered):
            if entry.task_uid == task.key.uid:
                return place
        priority = task.spec.priority if task.spec is not None else 0
        return sum(entry.priority >= priority for entry in ordered)

    def waits_for(self, namespace: str, pool: str) -> bool:
        """Whether anybody waits for a pool."""
        return bool(self._entries.get((namespace, pool)))

    def kick_first(self, namespace: str, pool: str, count: int) -> None:
        """Look at the tasks that are first in line."""
        for entry in self._order((namespace, pool))[:count]:
            self._kick_task(entry.task_uid)

    def pool_gone(self, namespace: str, pool: str) -> None:
        """Nobody can wait for this pool any more: let those who did look again."""
        entries = self._entries.pop((namespace, pool), {})
        self._orders.pop((namespace, pool), None)
        for uid, _ in entries:
            self._kick_task(uid)

    def oldest(self) -> datetime | None:
        """Return since when the one that waits longest has waited."""
        return min(
            (entry.queued for entries in self._entries.values() for entry in entries.values()), default=None
        )

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()
        self._orders.clear()
        QUEUE_DEPTH.set(0)

    def _order(self, pool: _Pool) -> tuple[QueueEntry, ...]:
        known = self._orders.get(pool)
        if known is None:
            entries = self._entries.get(pool, {})
            known = self._orders[pool] = order(entries.values(), self._shares.get(pool[0]))
        return known
