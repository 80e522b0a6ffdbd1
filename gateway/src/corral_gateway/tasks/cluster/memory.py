"""What is known of the tasks of a cluster: fed by the watch and by our own writes, asked by everybody who waits."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from corral.api import Phase
from corral.cluster.mirror import version_of
from corral.cluster.names import CALLER_LABEL
from corral.cluster.port import Json
from corral_gateway.tasks.cluster.bodies import Bodies
from corral_gateway.tasks.cluster.reading import deleted, moment, slim
from corral_gateway.tasks.cluster.waiting import Waiting
from corral_gateway.tasks.port import TaskFilter
from corral_gateway.tasks.stamps import SUBMISSION_ANNOTATION

#: UIDs of deleted tasks, remembered so that a late answer does not bring them back.
_TOMBSTONES = 20_000
#: Tasks that were deleted before they had ended, remembered until who waits for them has been told.
_LAST_WORDS = 500

#: Told of a task that has ended: as it stands, and whether it was so before anybody looked.
OnEnded = Callable[[Json, bool], None]


@dataclass(frozen=True, slots=True)
class Known:
    """What is always known of a task; the whole of it is elsewhere."""

    uid: str
    namespace: str
    name: str
    caller_label: str
    version: int
    created_at: datetime
    tool: str | None
    phase: str
    reason: str | None
    #: The id that it was let in under, by some gateway.
    submission: str

    @property
    def ended(self) -> bool:
        """It has its last status."""
        return self.reason is not None

    def fits(self, wanted: TaskFilter) -> bool:
        """Whether a filter lets it through."""
        return (
            (wanted.phase is None or self.phase == wanted.phase)
            and (wanted.tool is None or self.tool == wanted.tool)
            and (wanted.reason is None or self.reason == wanted.reason)
            and (
                wanted.after is None
                or (self.created_at, self.uid) < (wanted.after.created_at, wanted.after.uid)
            )
        )


class TaskMemory:
    """Implements ``Picture`` of ``corral.cluster.mirror``."""

    def __init__(self, on_ended: OnEnded, waiting: Waiting, bodies: Bodies | None = None) -> None:
        self._on_ended = on_ended
        self._waiting = waiting
        self.bodies = bodies or Bodies()
        self._known: dict[str, Known] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._of_caller: dict[str, dict[str, Known]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._last_words: OrderedDict[str, Json] = OrderedDict()
        self._changes: dict[str, asyncio.Event] = {}
        self._complete: set[str | None] = set()
        #: How many have not ended.
        self.active = 0

    # --- asking ---

    def get(self, uid: str) -> Known | None:
        """Return what is known of a task."""
        return self._known.get(uid)

    def named(self, namespace: str, name: str) -> Known | None:
        """Return the task that has a name now."""
        uid = self._names.get((namespace, name))
        return None if uid is None else self._known.get(uid)

    def submitted(self, caller_label: str, submission: str) -> Known | None:
        """Return a caller's task by the id that it was let in under."""
        own = self._of_caller.get(caller_label, {}).values()
        return next((known for known in own if known.submission == submission), None)

    def last_words(self, uid: str) -> Json | None:
        """Return a task that was deleted before it had ended."""
        return self._last_words.get(uid)

    def change(self, uid: str) -> asyncio.Event:
        """Return what is set when something about a task is new; it need not be known yet."""
        if uid in self._gone:
            over = asyncio.Event()
            over.set()
            return over
        return self._changes.setdefault(uid, asyncio.Event())

    def forget_change(self, uid: str, event: asyncio.Event) -> None:
        """Give back what ``change`` returned; somebody else may still wait for it."""
        if self._changes.get(uid) is event:
            del self._changes[uid]
            event.set()

    def find(self, caller_label: str, wanted: TaskFilter) -> Sequence[Known]:
        """Return a caller's tasks, newest first."""
        fitting = [one for one in self._of_caller.get(caller_label, {}).values() if one.fits(wanted)]
        fitting.sort(key=lambda one: (one.created_at, one.uid), reverse=True)
        return fitting

    # --- being told ---

    def put(self, body: Json) -> None:
        """Take in a task as it stands; an older version than the one known changes nothing."""
        uid = body["metadata"]["uid"]
        before, known = self._known.get(uid), _known(body)
        if uid in self._gone or (before is not None and known.version <= before.version):
            return
        self._count(before, known)
        self._known[uid] = known
        self._names[known.namespace, known.name] = uid
        self._of_caller.setdefault(known.caller_label, {})[uid] = known
        if before is not None and before.caller_label != known.caller_label:
            self._leave(before)
        slimmed = slim(body)
        self.bodies.put(slimmed)
        if known.ended and (before is None or not before.ended):
            is_complete = None in self._complete or known.namespace in self._complete
            self._on_ended(slimmed, before is None and not is_complete)
        self._wake(uid)

    def remove(self, body: Json) -> None:
        """Take out a task that was deleted."""
        self._drop(body["metadata"]["uid"], slim(body))

    def listed(self, namespace: str | None, uids: Collection[str], version: int) -> None:
        """Take out what a whole list did not have."""
        missing = [
            known
            for known in self._known.values()
            if known.uid not in uids
            and known.version <= version
            and (namespace is None or known.namespace == namespace)
        ]
        for known in missing:
            self._drop(known.uid, None)
        self._complete.add(namespace)

    def _drop(self, uid: str, body: Json | None) -> None:
        known = self._known.pop(uid, None)
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        if known is None:
            return
        self._count(known, None)
        self._leave(known)
        if self._names.get((known.namespace, known.name)) == uid:
            del self._names[known.namespace, known.name]
        body = body or self.bodies.get(uid) or _bare(known)
        self.bodies.drop(uid)
        if not known.ended:
            words = self._last_words[uid] = deleted(body, datetime.now(UTC))
            while len(self._last_words) > _LAST_WORDS:
                self._last_words.popitem(last=False)
            self._on_ended(words, False)
        self._wake(uid)

    def _leave(self, known: Known) -> None:
        others = self._of_caller.get(known.caller_label, {})
        others.pop(known.uid, None)
        if not others:
            self._of_caller.pop(known.caller_label, None)

    def _count(self, before: Known | None, now: Known | None) -> None:
        for known, one in ((before, -1), (now, 1)):
            if known is not None and not known.ended:
                self.active += one
        waited, waits = _waiting_of(before), _waiting_of(now)
        if waited != waits:
            if waited is not None:
                self._waiting.ended(waited)
            if waits is not None:
                self._waiting.began(waits)

    def _wake(self, uid: str) -> None:
        event = self._changes.pop(uid, None)
        if event is not None:
            event.set()


def _waiting_of(known: Known | None) -> str | None:
    """Return whose task waits, as the label has it; None: it does not wait."""
    waits = known is not None and not known.ended and known.phase == Phase.PENDING
    return known.caller_label if known is not None and waits else None


def _known(body: Json) -> Known:
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    return Known(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        caller_label=(metadata.get("labels") or {}).get(CALLER_LABEL, ""),
        version=version_of(body),
        created_at=moment(metadata["creationTimestamp"]),
        tool=spec.get("tool"),
        phase=status.get("phase") or Phase.PENDING.value,
        reason=status.get("reason"),
        submission=(metadata.get("annotations") or {}).get(SUBMISSION_ANNOTATION, ""),
    )


def _bare(known: Known) -> Json:
    """Return what can be said of a task whose whole is not kept any more."""
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {
            "name": known.name,
            "namespace": known.namespace,
            "uid": known.uid,
            "labels": {CALLER_LABEL: known.caller_label},
            "creationTimestamp": known.created_at.isoformat().replace("+00:00", "Z"),
        },
        "spec": {"tool": known.tool},
    }
