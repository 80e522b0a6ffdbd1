"""From what Kubernetes does to a pod to why an execution ended: one table of causes.

Sources of the reasons, in kubernetes/kubernetes: waiting containers pkg/kubelet/images/types.go and
pkg/kubelet/container/sync_result.go; ended pods pkg/kubelet/eviction/helpers.go, pkg/kubelet/lifecycle/predicate.go,
pkg/kubelet/nodeshutdown, pkg/kubelet/preemption; disruptions staging/src/k8s.io/api/core/v1/types.go
(``PodReason…``).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.api import Reason
from corral_operator.decisions import pod_causes
from corral_operator.decisions.pod_causes import Cause
from corral_operator.views import PodView

#: How long an image may fail to be fetched before it counts. The kubelet's second try comes after 10 s, the third
#: after 20 more (``imageBackOff``, pkg/kubelet/kubelet.go), and a registry's hiccup is over by then.
IMAGE_PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class PodFailure:
    """Why a pod serves nobody any more, or never will."""

    reason: Reason
    #: What happened, where, and what to do.
    message: str
    #: False: its container never started, so nothing ran. None: what the container ran is not known from the pod.
    ran: bool | None
    #: The kubelet or the scheduler still tries: it may come right after all.
    still_tried: bool = False
    #: Nothing ran, and nothing of the task is to blame: another pod may do.
    elsewhere: bool = False
    #: The field of the task that is to be corrected.
    field: str | None = None


def pod_failure(
    pod: PodView, now: datetime, patience: timedelta, image_patience: timedelta = IMAGE_PATIENCE
) -> PodFailure | None:
    """Return why a pod has failed; None while it waits, starts, or runs.

    What took the pod away goes before how its container ended: a container killed by an eviction has exit code 137,
    too.

    Args:
        pod: as it is seen.
        now: the time.
        patience: how long it may take to find a node, from the pod's creation on, and then to run, from then on.
            A cluster that adds nodes takes minutes.
        image_patience: how long its image may fail to be fetched, from the time it got its node.
    """
    ended = cluster_failure(pod) or _container_failure(pod)
    if ended is not None:
        return ended
    if pod.deleting:
        message = (
            f"pod {pod.key.name} was deleted by somebody other than Corral before its task ended. "
            "Run the task again, and leave pods to the operator: cancel the task instead"
        )
        return PodFailure(Reason.SANDBOX_FAILED, message, ran=_ran(pod))
    waiting = _waiting(pod, patience, image_patience)
    return waiting[1] if waiting is not None and now >= waiting[0] else None


def patience_ends(
    pod: PodView, patience: timedelta, image_patience: timedelta = IMAGE_PATIENCE
) -> datetime | None:
    """Return when a pod that does not get on counts as failed; None for one that runs, has ended, or is going."""
    waiting = _waiting(pod, patience, image_patience)
    return None if waiting is None else waiting[0]


def doubted(failure: PodFailure) -> PodFailure:
    """Return the failure of a pod that something may have been started in, whatever the pod itself says.

    A kubelet that comes back, as after its node was restarted, admits its pods anew. What it refuses then loses all
    that its status said of containers that ran (kubernetes/kubernetes#123859, #117955).
    """
    return replace(failure, ran=None, elsewhere=False)


def pod_gone(name: str, node: str | None, last_seen: PodView | None = None) -> PodFailure:
    """Return why a pod that should exist does not: what it was last seen to suffer, else that nobody knows."""
    if last_seen is not None:
        known = cluster_failure(last_seen) or _container_failure(last_seen)
        if known is not None:
            return known
    where = f"pod {name}" + (f" on node {node}" if node else "")
    message = (
        f"{where} is gone: it was deleted by somebody other than Corral, or with its node, before its task ended. "
        "Run the task again"
    )
    # Between the last look and its end there was time to run.
    return PodFailure(Reason.SANDBOX_FAILED, message, ran=None)


def cluster_failure(pod: PodView) -> PodFailure | None:
    """Return what the cluster did to a pod: eviction, loss of its node, refusal by its node, its deadline."""
    cause = pod_causes.of_disruption(pod) or pod_causes.of_status(pod)
    if cause is None:
        return None
    return _failure(pod, cause, ran=False if cause.before_start else _ran(pod))


def was_started(pod: PodView) -> bool:
    """Whether the container was ever started."""
    container = pod.container
    if container.terminated in pod_causes.NEVER_STARTED:
        return False
    return container.running or container.terminated is not None


def _ran(pod: PodView) -> bool | None:
    return None if was_started(pod) else False


def _container_failure(pod: PodView) -> PodFailure | None:
    cause = pod_causes.of_terminated(pod.container)
    if cause is None:
        return None
    begun = pod_causes.may_have_begun(pod.container)
    return _failure(pod, cause, ran=None if begun else _ran(pod))


def _waiting(
    pod: PodView, patience: timedelta, image_patience: timedelta
) -> tuple[datetime, PodFailure] | None:
    """Return what a pod waits for and until when; None for one that does not wait."""
    if pod.ended or pod.container.running or pod.container.terminated is not None:
        return None
    if pod.node is None:
        return pod.created + patience, _failure(pod, pod_causes.unscheduled(pod), ran=False, still_tried=True)
    cause, limit = pod_causes.of_waiting(pod.container), patience
    if cause.hopeless:
        limit = timedelta(0)
    elif cause.reason is Reason.IMAGE_PULL_FAILED:
        limit = min(patience, image_patience)
    failure = _failure(pod, cause, ran=False, still_tried=True)
    return (pod.scheduled_at or pod.created) + limit, failure


def _failure(pod: PodView, cause: Cause, *, ran: bool | None, still_tried: bool = False) -> PodFailure:
    where = f"pod {pod.key.name}" + (f" on node {pod.node}" if pod.node else "")
    said = f" ({cause.said})" if cause.said else ""
    return PodFailure(
        cause.reason,
        f"{where}: {cause.what}{said}. {cause.remedy}",
        ran=ran,
        still_tried=still_tried,
        elsewhere=cause.elsewhere,
        field=cause.field,
    )
