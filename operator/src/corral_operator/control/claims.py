"""Which waiting sandboxes are taken, and by whom; and which nobody may have any more."""

from collections.abc import Collection
from dataclasses import dataclass

from corral.cluster.port import ObjectKey
from corral_operator.decisions.task_view import TaskView


@dataclass(frozen=True, slots=True)
class _Claim:
    pod: ObjectKey
    caller: str


class Claims:
    """Taken sandboxes by the UID of their pod. The tasks' statuses say the same, and outlive it."""

    def __init__(self) -> None:
        #: By the UIDs of pod and task. Two operators may have given one sandbox to two tasks.
        self._claims: dict[str, dict[str, _Claim]] = {}
        self._spent: set[str] = set()

    @property
    def taken(self) -> Collection[str]:
        """UIDs of pods that a task has."""
        return self._claims.keys()

    @property
    def spent(self) -> Collection[str]:
        """UIDs of pods that nobody may have any more."""
        return self._spent

    def is_free(self, pod: str) -> bool:
        """Whether a sandbox may be given to somebody."""
        return pod not in self._claims and pod not in self._spent

    def take(self, pod: ObjectKey, task: TaskView) -> None:
        """Give a sandbox to a task."""
        self._claims.setdefault(pod.uid, {})[task.key.uid] = _Claim(pod, task.caller)

    def adopt(self, task: TaskView) -> None:
        """Know the claims that stand in a task's status: this operator did not make them, or not lately."""
        for execution in task.status.executions:
            sandbox = execution.sandbox
            if execution.reason is None and sandbox is not None and sandbox.warm and sandbox.pod_uid:
                pod = ObjectKey(task.key.namespace, sandbox.pod_name or "", sandbox.pod_uid)
                self.take(pod, task)

    def claimers(self, pod: str) -> Collection[str]:
        """Return the UIDs of the tasks that have a sandbox: one at most, but for a moment."""
        return self._claims.get(pod, {}).keys()

    def release(self, task: str, keep: Collection[str]) -> list[str]:
        """Take a task's sandboxes back, but for those to keep.

        Returns:
            UIDs of the pods.
        """
        given_up = [uid for uid, claims in self._claims.items() if task in claims and uid not in keep]
        for uid in given_up:
            del self._claims[uid][task]
            if not self._claims[uid]:
                del self._claims[uid]
        return given_up

    def spoil(self, pod: str) -> None:
        """Nobody may have this sandbox any more."""
        self._spent.add(pod)

    def unspoil(self, pod: str) -> None:
        """It is in use after all: only whoever has it may say when it is spent."""
        self._spent.discard(pod)

    def forget(self, pod: str) -> None:
        """The pod does not exist any more."""
        self._claims.pop(pod, None)
        self._spent.discard(pod)

    def running(self, namespace: str) -> dict[str, int]:
        """Return how many sandboxes of a namespace each caller has."""
        counts: dict[str, int] = {}
        for claim in (claim for claims in self._claims.values() for claim in claims.values()):
            if claim.pod.namespace == namespace:
                counts[claim.caller] = counts.get(claim.caller, 0) + 1
        return counts

    def clear(self) -> None:
        """Forget everything."""
        self._claims.clear()
        self._spent.clear()
