"""What the decisions see of the cluster: frozen values, parsed once from raw JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from corral.cluster.port import ObjectKey

Json = Mapping[str, Any]

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


@dataclass(frozen=True, slots=True)
class ContainerView:
    """The sandbox container of a pod."""

    #: Reason of the waiting state, such as ImagePullBackOff.
    waiting: str | None = None
    waiting_message: str = ""
    running: bool = False
    started_at: datetime | None = None
    #: Reason of the terminated state, such as OOMKilled, Error, Completed.
    terminated: str | None = None
    terminated_message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod, as far as the operator looks at it."""

    key: ObjectKey
    resource_version: str
    labels: Mapping[str, str]
    created: datetime
    phase: PodPhase
    #: Reason of the pod's own status, such as Evicted, NodeLost, DeadlineExceeded, NodeAffinity.
    reason: str | None
    message: str
    node: str | None
    ip: str | None
    ready: bool
    #: True, False, or None while nobody has looked; with the scheduler's reason and message.
    scheduled: bool | None
    scheduling_reason: str | None
    scheduling_message: str
    #: The reason of the DisruptionTarget condition: why the cluster takes the pod away, such as
    #: PreemptionByScheduler, DeletionByTaintManager, EvictionByEvictionAPI, TerminationByKubelet.
    disruption: str | None
    container: ContainerView
    deleting: bool
    #: UID of the controlling owner.
    owner_uid: str | None
    #: Limits of the sandbox container as they are in force, in cores and bytes; None where none is set.
    cpu: float | None = None
    memory_bytes: int | None = None
    #: Size of its scratch volume.
    disk_bytes: int | None = None
    #: When it was given a node.
    scheduled_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """It will run nothing more."""
        return self.deleting or self.phase in {"Succeeded", "Failed"}


def parse_time(text: str | None) -> datetime | None:
    """Return a Kubernetes time; None for none."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def pod_view(pod: Json, container: str) -> PodView:
    """Parse a pod. What a broken or foreign pod lacks is None or empty; nothing raises but missing identity.

    Args:
        pod: the object as the API server sends it.
        container: name of the container to look at.
    """
    metadata = pod["metadata"]
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    disruption = conditions.get("DisruptionTarget", {})
    found: Json = next(
        (one for one in status.get("containerStatuses") or () if one.get("name") == container), {}
    )
    limits = (found.get("resources") or {}).get("limits") or {}
    return PodView(
        key=ObjectKey(metadata["namespace"], metadata["name"], metadata["uid"]),
        resource_version=metadata.get("resourceVersion", ""),
        labels=metadata.get("labels") or {},
        created=parse_time(metadata.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason"),
        message=status.get("message", ""),
        node=(pod.get("spec") or {}).get("nodeName"),
        ip=status.get("podIP"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        scheduled={"True": True, "False": False}.get(scheduled.get("status", "")),
        scheduling_reason=scheduled.get("reason"),
        scheduling_message=scheduled.get("message", ""),
        disruption=disruption.get("reason") if disruption.get("status") == "True" else None,
        container=_container(found),
        deleting="deletionTimestamp" in metadata,
        owner_uid=next(
            (owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")), None
        ),
        cpu=_cores(limits.get("cpu")),
        memory_bytes=_bytes(limits.get("memory")),
        disk_bytes=next(
            (
                _bytes(volume["emptyDir"].get("sizeLimit"))
                for volume in (pod.get("spec") or {}).get("volumes") or ()
                if volume.get("emptyDir")
            ),
            None,
        ),
        scheduled_at=(
            parse_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None
        ),
    )


def _container(status: Json) -> ContainerView:
    state = status.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    return ContainerView(
        waiting=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        running="running" in state,
        started_at=parse_time((state.get("running") or terminated).get("startedAt")),
        terminated=terminated.get("reason", "Unknown") if terminated else None,
        terminated_message=terminated.get("message", ""),
        exit_code=terminated.get("exitCode"),
        signal=terminated.get("signal"),
        finished_at=parse_time(terminated.get("finishedAt")),
    )


def _cores(text: str | None) -> float | None:
    from corral.api import parse_cpu

    return None if text is None else parse_cpu(text)


def _bytes(text: str | None) -> int | None:
    from corral.api import parse_bytes

    return None if text is None else parse_bytes(text)
