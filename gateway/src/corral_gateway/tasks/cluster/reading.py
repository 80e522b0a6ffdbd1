"""Between an AgentTask as the API server has it and as callers are told of it. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from corral.api import AgentTask, AgentTaskSpec, AgentTaskStatus, ObjectMeta, Phase, Reason, time_text
from corral.catalogue import Catalogue
from corral.catalogue.tool_versions import versions_written
from corral.cluster.port import Json
from corral_gateway.tasks.intake import request_sha256
from corral_gateway.tasks.stamps import REQUEST_ANNOTATION, SUBMISSION_ANNOTATION, keyed_name

_NOT_TOLD = ("managedFields", "selfLink")


def slim(body: Mapping[str, Any]) -> Json:
    """Return an object without what nobody is told: who has written which field may be larger than the task."""
    metadata = {name: value for name, value in body["metadata"].items() if name not in _NOT_TOLD}
    return {**body, "metadata": metadata}


def task_of(body: Json) -> AgentTask:
    """Return a task. One that somebody wrote past what the contract allows has as much of it as can be read."""
    try:
        return AgentTask.model_validate(body, by_alias=True, by_name=False, extra="ignore")
    except ValidationError:
        spec = body.get("spec") or {}
        tool = spec.get("tool") if isinstance(spec.get("tool"), str) else None
        try:
            status = AgentTaskStatus.model_validate(
                body.get("status") or {}, by_alias=True, by_name=False, extra="ignore"
            )
        except ValidationError:
            status = AgentTaskStatus()
        kept = ("name", "namespace", "uid", "labels", "annotations", "creationTimestamp")
        metadata = {name: value for name, value in body["metadata"].items() if name in kept}
        return AgentTask.model_construct(
            metadata=ObjectMeta.model_validate(metadata, by_alias=True, by_name=False, extra="ignore"),
            spec=AgentTaskSpec.model_construct(tool=tool),
            status=status,
        )


def body_of(task: AgentTask, namespace: str, caller: str, catalogue: Catalogue) -> Json:
    """Return what is created in a cluster for a task that came in.

    With an idempotency key its name follows from the key, so that of two that come at once the API server takes one.
    The operator learns of tools from a watch of its own, which may be behind; the task says which versions there are.
    """
    key, given = task.spec.idempotency_key, task.metadata
    annotations = {
        **given.annotations,
        SUBMISSION_ANNOTATION: given.uid or "",
        REQUEST_ANNOTATION: request_sha256(task).hex(),
        **versions_written(task.spec.called_tools, catalogue),
    }
    return {
        "apiVersion": task.api_version,
        "kind": task.kind,
        "metadata": {
            "name": given.name if key is None else keyed_name(caller, key),
            "namespace": namespace,
            "labels": dict(given.labels),
            "annotations": annotations,
        },
        "spec": task.spec.to_wire(),
    }


def deleted(body: Json, now: datetime) -> Json:
    """Return a task that was deleted before it had ended, as it ended by that."""
    status = body.get("status") or {}
    if status.get("reason"):
        return body
    end = {
        "phase": Phase.CANCELLED.value,
        "reason": Reason.CANCELLED.value,
        "message": "the task was deleted",
        "completionTime": time_text(now),
    }
    return {**body, "status": {**status, **end}}


def seconds_of(task: AgentTask) -> float:
    """Return how long an ended task took, from being seen, or made, to its end."""
    status = task.status
    if status is None or status.completion_time is None:
        return 0.0
    queued = [one.timings.queued for one in status.executions if one.timings and one.timings.queued]
    began = min(queued, default=task.metadata.creation_timestamp)
    if began is None:
        return 0.0
    return max(0.0, (moment(status.completion_time) - moment(began)).total_seconds())


def moment(text: str) -> datetime:
    """Return a time of the cluster's, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)
