"""How many sandboxes a pool makes and takes away now. Pure, level-based: pods are looked at, events are not counted.

A pod of a pool is one of: claimed (it runs a task, and is not touched), spent (it served, or nobody knows: it goes),
waiting (ready or starting), or ended. Waiting ones are of today's template or outdated.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil

from corral.api import Reason, Refill, SandboxPoolSpec, SandboxPoolStatus
from corral.cluster.port import ObjectKey
from corral_operator.decisions.pod_failure import PodFailure, patience_ends, pod_failure
from corral_operator.decisions.pool_status import Counts, pool_status
from corral_operator.decisions.refill import PoolMemory, RefillBucket
from corral_operator.decisions.template import same_kind
from corral_operator.names import TEMPLATE_LABEL
from corral_operator.views import PodView

#: While outdated sandboxes are replaced, so much of the pool may start beside them, as a Deployment's maxSurge.
_SURGE = 0.25
#: A sandbox that was taken is replaced after so long, unless somebody waits for one, and one that has served goes so
#: long after. Tasks come in bursts, and pods that start and end beside a burst cost it more time than the pool loses.
LULL = timedelta(seconds=0.5)
#: What happens to a waiting sandbox through no fault of its own.
_NOT_ITS_FAULT = frozenset({Reason.EVICTED, Reason.NODE_LOST})


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool, as far as it is looked at."""

    key: ObjectKey
    generation: int
    spec: SandboxPoolSpec
    deleting: bool
    status: SandboxPoolStatus | None
    #: What its pods are made from now: ``builders.template.template_hash``.
    template: str

    @property
    def refill(self) -> Refill:
        """How fast it is refilled."""
        return self.spec.refill or Refill()


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What to do about a pool now."""

    memory: PoolMemory
    create: int = 0
    delete: tuple[ObjectKey, ...] = ()
    #: None: it stands as it should.
    status: SandboxPoolStatus | None = None
    #: Look again then, if nothing happens before.
    wake_at: datetime | None = None


@dataclass(slots=True)
class _Sorted:
    """The pods of a pool by what they are."""

    claimed: list[PodView] = field(default_factory=list)
    #: Some of its sandboxes serve tasks, or have and are still there.
    served: bool = False
    ready: list[PodView] = field(default_factory=list)
    starting: list[PodView] = field(default_factory=list)
    #: Outdated, ready, and still good for tasks of this pool.
    outdated: list[PodView] = field(default_factory=list)
    delete: list[PodView] = field(default_factory=list)
    #: Of today's template, with why each does not come up.
    failed: list[tuple[PodView, PodFailure]] = field(default_factory=list)


def is_usable(pod: PodView, template: str) -> bool:
    """Whether a waiting sandbox may be given to a task of a pool with this template."""
    return pod.ready and not pod.ended and same_kind(pod.labels.get(TEMPLATE_LABEL, ""), template)


def decide_pool(
    pool: PoolState,
    pods: Iterable[PodView],
    now: datetime,
    *,
    claimed: Collection[str],
    spent: Collection[str],
    silent: Mapping[str, datetime],
    creating: int,
    awaited: bool,
    memory: PoolMemory | None,
    patience: timedelta,
) -> PoolPlan:
    """Say what to do about a pool.

    Args:
        pool: as it stands.
        pods: that carry its label; only those it owns are looked at, a label can be given to any pod.
        now: the time.
        claimed: UIDs of pods that a task has.
        spent: UIDs of pods that nobody may have any more: they served, or did not answer.
        silent: since when no runner answers, by UID of the pods whose runner should.
        creating: how many pods are being made for it that are not among ``pods`` yet.
        awaited: whether a task waits for one of its sandboxes.
        memory: of the last decision; None at first.
        patience: how long a sandbox may take to start.
    """
    if memory is None:
        memory = PoolMemory(RefillBucket.full(pool.refill, now))
    memory = replace(memory, bucket=memory.bucket.at_time(pool.refill, now))
    if pool.deleting:
        return PoolPlan(memory)  # its pods go with it, by their owner reference
    own = [pod for pod in pods if pod.owner_uid == pool.key.uid]
    found = _sort(pool, own, now, claimed=claimed, spent=spent, silent=silent, patience=patience)
    memory = _remember(memory, found, now)
    _scale_down(pool.spec.replicas, found)
    wanted = _wanted(pool, found, creating)
    short = wanted > 0 and found.served
    memory = replace(memory, short_since=(memory.short_since or now) if short else None)
    create, again_at = _create(pool, found, wanted, memory, now, creating=creating, awaited=awaited)
    memory = replace(memory, bucket=memory.bucket.take(create))
    moments = [again_at]
    for pod in found.starting:
        moments += [patience_ends(pod, patience), _patience_over(pod, patience)]
        if pod.key.uid in silent:
            moments.append(silent[pod.key.uid] + patience)
    status = pool_status(
        Counts(
            asked=pool.spec.replicas,
            ready=len(found.ready) + len(found.outdated),
            starting=len(found.starting),
            claimed=len(found.claimed),
        ),
        pool_name=pool.key.name,
        generation=pool.generation,
        before=pool.status,
        trouble=_trouble(found, memory),
        now=now,
    )
    return PoolPlan(
        memory=memory,
        create=create,
        delete=tuple(pod.key for pod in sorted(found.delete, key=lambda pod: pod.key.name)),
        status=None if status == pool.status else status,
        wake_at=min((moment for moment in moments if moment is not None and moment > now), default=None),
    )


def _sort(
    pool: PoolState,
    pods: list[PodView],
    now: datetime,
    *,
    claimed: Collection[str],
    spent: Collection[str],
    silent: Mapping[str, datetime],
    patience: timedelta,
) -> _Sorted:
    found = _Sorted()
    for pod in pods:
        template = pod.labels.get(TEMPLATE_LABEL, "")
        found.served |= pod.deleting or pod.key.uid in spent or pod.key.uid in claimed
        if pod.key.uid in claimed:
            found.claimed.append(pod)
        elif pod.deleting:
            continue
        elif pod.key.uid in spent or not same_kind(template, pool.template):
            found.delete.append(pod)
        elif (
            failure := pod_failure(pod, now, patience)
            or _silence(pod, silent.get(pod.key.uid), now, patience)
        ) is not None:
            if template == pool.template:
                found.failed.append((pod, failure))
            keep = template == pool.template and _may_come_right(pod, failure, now, patience)
            (found.starting if keep else found.delete).append(pod)
        elif template == pool.template:
            (found.ready if pod.ready else found.starting).append(pod)
        elif pod.ready:
            found.outdated.append(pod)
        else:
            found.delete.append(pod)  # outdated before it was ready: nobody misses it
    return found


def _silence(pod: PodView, since: datetime | None, now: datetime, patience: timedelta) -> PodFailure | None:
    """Return that a runner has been silent for too long. The kubelet sees a process, and finds nothing wrong."""
    if since is None or now < since + patience:
        return None
    message = (
        f"pod {pod.key.name} on node {pod.node}: its runner has not answered for {patience.total_seconds():g} "
        "seconds. See its log, and whether the operator's pod can reach it"
    )
    return PodFailure(Reason.SANDBOX_FAILED, message, ran=None)


def _may_come_right(pod: PodView, failure: PodFailure, now: datetime, patience: timedelta) -> bool:
    """Whether a failed pod is left alone, because the cluster still tries.

    A kubelet that tries again to fetch an image does so with pauses of its own and without a write to the API
    server, and a pending pod is what makes a cluster add nodes: a new pod would be no better. But its node may be
    what is wrong, so one that has a node is replaced when the patience is over.
    """
    return failure.still_tried and (pod.node is None or now < _patience_over(pod, patience))


def _patience_over(pod: PodView, patience: timedelta) -> datetime:
    return (pod.scheduled_at or pod.created) + patience


def _remember(memory: PoolMemory, found: _Sorted, now: datetime) -> PoolMemory:
    """Count a failure that is new, and forget them all once a sandbox is ready that was made after the last."""
    after = memory.newest_at_failure
    if any(after is None or pod.created > after for pod in (*found.ready, *found.claimed)):
        memory = replace(memory, trouble=None)
    seen = [pod.created for pod in (*found.ready, *found.starting, *found.claimed, *found.delete)]
    known = [] if memory.newest is None else [memory.newest]
    memory = replace(memory, newest=max([*seen, *known], default=None))
    new = [
        (pod, failure)
        for pod, failure in found.failed
        if failure.reason not in _NOT_ITS_FAULT and (after is None or pod.created > after)
    ]
    if not new:
        return memory
    _, failure = max(new, key=lambda one: _age(one[0]))
    return memory.failed(failure.reason.value, failure.message, now)


def _scale_down(asked: int, found: _Sorted) -> None:
    """Take away what is too many: those that start first, they serve nobody yet; then the youngest.

    The youngest stand on the nodes that were added last, which the cluster can then give back. Outdated ones go as
    soon as as many of today's are ready.
    """
    for waiting in (found.starting, found.ready):
        excess = len(found.starting) + len(found.ready) - asked
        waiting.sort(key=_age)
        while excess > 0 and waiting:
            found.delete.append(waiting.pop())
            excess -= 1
    found.outdated.sort(key=_age)
    while len(found.outdated) > max(0, asked - len(found.ready)):
        found.delete.append(found.outdated.pop(0))  # of these the oldest: they have waited longest


def _wanted(pool: PoolState, found: _Sorted, creating: int) -> int:
    starting = len(found.starting) + creating
    wanted = pool.spec.replicas - len(found.ready) - starting
    if found.outdated:
        wanted = min(wanted, max(1, ceil(pool.spec.replicas * _SURGE)) - starting)
    return wanted


def _create(
    pool: PoolState,
    found: _Sorted,
    wanted: int,
    memory: PoolMemory,
    now: datetime,
    *,
    creating: int,
    awaited: bool,
) -> tuple[int, datetime | None]:
    """Return how many to make now, and when to look again if that is fewer than wanted."""
    if wanted <= 0:
        return 0, None
    if memory.short_since is not None and not awaited and now < memory.short_since + LULL:
        return 0, memory.short_since + LULL
    if memory.trouble is not None:
        # One at a time, to see whether it comes up.
        if found.starting or creating:
            return 0, None
        if now < memory.trouble.retry_at:
            return 0, memory.trouble.retry_at
        wanted = 1
    create = min(wanted, memory.bucket.whole)
    if create == wanted:
        return create, None
    return create, memory.bucket.take(create).next_at(pool.refill)


def _trouble(found: _Sorted, memory: PoolMemory) -> tuple[str, str] | None:
    """Return the cause that people are told: of a pod that is there, else the last one known."""
    if found.failed:
        _, failure = max(found.failed, key=lambda one: _age(one[0]))
        if failure.reason not in _NOT_ITS_FAULT:
            return failure.reason.value, failure.message
    if memory.trouble is not None:
        return memory.trouble.reason, memory.trouble.message
    return None


def _age(pod: PodView) -> tuple[datetime, str]:
    return pod.created, pod.key.name
