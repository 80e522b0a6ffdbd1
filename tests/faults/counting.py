"""Counts executions without asking the operator, and holds what it says against that.

Why the count is sound:

- A runner's frames are kept for its whole life and numbered, and ``started`` is written by the process that forks
  the tool, in the same step. The recorder reads them with the read token of every pod, from number 0, straight from
  the pod. So what a runner started is known if it was read once to the end of the pod's life, whoever told it to.
- A pod that ran and was never read could hide an execution. Such pods are counted (``unheard``); unless it is 0,
  the other numbers say nothing and the test fails. Pods that a test takes away with their node are named apart.
- So are pods with a runner that ended before they could be read and that no task's status ever named, in any
  version that the recorder's watch saw (``idle``: the surplus of two operators, or of a lost answer). Here alone the
  count trusts the operator in one thing: that it writes an assignment before it starts.
- A container without a runner starts once (``restartPolicy: Never``), and its pod's status, seen through the
  recorder's own watch, says so, its last state included in the DELETED event. Its execution stands on its labels.
- Whose execution it was, the runner says (``describe``: task UID and attempt), and no status of the operator's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Json = dict[str, Any]

#: Task UID, execution, attempt.
Attempt = tuple[str, str, int]


@dataclass(slots=True)
class PodRecord:
    """A sandbox pod, from the first event of it to the last."""

    name: str
    uid: str
    labels: Mapping[str, str]
    owner_uid: str
    has_runner: bool
    node: str = ""
    #: The container was seen running, or ended after having run.
    ran: bool = False
    deleted: bool = False
    #: Some version of some task's status gave an execution to it.
    assigned: bool = False
    #: A connection was taken by its runner.
    heard: bool = False
    #: Whom the runner serves: ``TASK/EXECUTION`` and the attempt.
    owner: tuple[str, int] | None = None
    frames: dict[int, Json] = field(default_factory=dict)

    def started(self) -> list[Attempt]:
        """Return what was started in it: more than one entry is one too many."""
        if not self.has_runner:
            task = self.labels.get("corral.dev/task-uid")
            if task is None or not self.ran:
                return []
            labels = self.labels
            return [(task, labels["corral.dev/execution"], int(labels["corral.dev/attempt"]))]
        frames = [frame for frame in self.frames.values() if frame["type"] == "started"]
        unknown = self.labels.get("corral.dev/task-uid", f"?{self.uid}")
        task = self.owner[0].split("/")[0] if self.owner is not None else unknown
        return [(task, str(frame["execution"]), int(frame["attempt"])) for frame in frames]

    def result(self) -> Json | None:
        """Return the result frame, if it was read."""
        return next((frame for frame in self.frames.values() if frame["type"] == "result"), None)


@dataclass(slots=True)
class Count:
    """What a test prints and holds to be zero."""

    submitted: int = 0
    started: int = 0
    lost: int = 0
    doubled: int = 0
    without_status: int = 0
    unheard: int = 0
    idle: int = 0
    pods: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    #: Each thing that is wrong, in words.
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """Return it for the wire."""
        return asdict(self)


def count(
    tasks: Iterable[Json],
    pods: Iterable[PodRecord],
    *,
    repeatable: frozenset[str],
    taken: frozenset[str],
    only: frozenset[str],
) -> Count:
    """Count.

    Args:
        tasks: every task submitted, as last seen, deleted ones included, with ``deleted`` in metadata.
        pods: every sandbox pod that there was.
        repeatable: tools that are declared idempotent.
        taken: UIDs of pods that the test took away with their frames, so that they cannot all have been read.
        only: UIDs of the tasks that are counted; an execution of an unknown task is counted with any.
    """
    found = Count()
    by_uid = {task["metadata"]["uid"]: task for task in tasks}
    by_attempt: defaultdict[Attempt, list[PodRecord]] = defaultdict(list)
    for pod in pods:
        found.pods += 1
        for attempt in pod.started():
            if attempt[0] in only or attempt[0] not in by_uid:
                by_attempt[attempt].append(pod)
                found.started += 1
        if not pod.has_runner or not pod.ran or pod.heard or pod.uid in taken:
            continue
        if pod.deleted and not pod.assigned:
            found.idle += 1
        else:
            found.unheard += 1
            found.problems.append(f"unheard: pod {pod.name} ran and was never read")
    reasons: Counter[str] = Counter()
    for task in (task for uid, task in by_uid.items() if uid in only):
        found.submitted += 1
        _look_at(task, by_attempt, repeatable, taken, reasons=reasons, found=found)
    for attempt, places in by_attempt.items():
        if len(places) > 1:
            found.doubled += len(places) - 1
            found.problems.append(f"doubled: {attempt} started in {[pod.name for pod in places]}")
    found.reasons = dict(reasons)
    return found


def _look_at(
    task: Json,
    by_attempt: Mapping[Attempt, list[PodRecord]],
    repeatable: frozenset[str],
    taken: frozenset[str],
    *,
    reasons: Counter[str],
    found: Count,
) -> None:
    uid, name, status = task["metadata"]["uid"], task["metadata"]["name"], task.get("status") or {}
    if task["metadata"].get("deleted"):
        return  # somebody deleted it: nobody is left to be told how it ended
    if not status.get("reason") or not status.get("completionTime"):
        found.without_status += 1
        found.problems.append(f"without status: {name}: {status.get('phase')} {status.get('message')}")
        return
    reasons[status["reason"]] += 1
    for execution in status.get("executions", ()):
        last = execution["attempt"]
        attempts = [n for n in range(1, last + 2) if (uid, execution["name"], n) in by_attempt]
        if len(attempts) > 1 and execution["tool"] not in repeatable:
            found.doubled += len(attempts) - 1
            found.problems.append(
                f"doubled: {name}/{execution['name']} may not run twice, started {attempts}"
            )
        beyond = (uid, execution["name"], last + 1) in by_attempt
        places = by_attempt.get((uid, execution["name"], last), [])
        results = [pod.result() for pod in places]
        said = {str(result["reason"]) for result in results if result is not None}
        in_taken = any(pod.uid in taken for pod in places)
        if beyond or (said and execution.get("reason") not in said and not in_taken):
            found.lost += 1
            found.problems.append(
                f"lost: {name}/{execution['name']} says {execution.get('reason')} "
                f"({execution.get('message')}); its runner said {sorted(said)}"
            )
        if execution.get("reason") == "Completed" and not places:
            found.lost += 1
            found.problems.append(f"lost: {name}/{execution['name']} says Completed and nothing was started")
