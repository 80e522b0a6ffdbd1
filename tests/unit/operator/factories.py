"""Pods as an API server sends them, and what the decisions see of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from corral.cluster.port import ObjectKey
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.names import CONTAINER
from corral_operator.views import PodView, pod_view

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIB = 1 << 20
SIZE = SandboxSize(1.0, 512 * MIB, 128 * MIB)
POOL = ObjectKey("team", "small", "pool-uid")


def text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def raw_pod(
    name: str = "box",
    *,
    age: float = 60,
    now: datetime = NOW,
    node: str | None = "node-1",
    phase: str = "Running",
    state: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    ready: bool = False,
    deleting: bool = False,
    disruption: str | None = None,
    owner_uid: str = "owner-uid",
    scheduler_says: str = "",
    **status: Any,
) -> dict[str, Any]:
    """A pod. ``state`` is that of its container; its node, where it has one, it got as it was created."""
    created = text(now - timedelta(seconds=age))
    conditions = [
        {
            "type": "PodScheduled",
            "status": "True" if node else "False",
            "reason": None if node else "Unschedulable",
            "message": scheduler_says,
            "lastTransitionTime": created,
        },
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    if disruption:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disruption})
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "labels": labels or {},
        "creationTimestamp": created,
        "ownerReferences": [{"uid": owner_uid, "controller": True}],
    }
    if deleting:
        metadata["deletionTimestamp"] = text(now)
    container = [] if state is None else [{"name": CONTAINER, "state": state}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": container, **status},
    }


def pod(name: str = "box", **fields: Any) -> PodView:
    return pod_view(raw_pod(name, **fields), CONTAINER)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(reason: str, exit_code: int, **fields: Any) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": exit_code, **fields}}


RUNNING: dict[str, Any] = {"running": {"startedAt": text(NOW)}}
