"""Tasks and events as rows of the database, and back. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

from corral.api import AgentTask, Phase
from corral_gateway.storage.models import TaskRow
from corral_gateway.tasks.events import Event
from corral_gateway.tasks.intake import request_sha256


def task_values(task: AgentTask, caller: str, owner: str, phase: Phase) -> dict[str, Any]:
    """Return the columns of a task that was taken in by a gateway, which runs it."""
    return {
        "uid": task.metadata.uid,
        "caller": caller,
        "tool": task.spec.tool,
        "phase": phase,
        "reason": None,
        "created_at": datetime.fromisoformat(task.metadata.creation_timestamp or ""),
        "idempotency_key": task.spec.idempotency_key,
        "request_sha256": request_sha256(task),
        "owner": owner,
        "manifest": task.to_wire(),
    }


def task_of_row(row: TaskRow) -> AgentTask:
    """Return the task of a row."""
    return AgentTask.model_validate(row.manifest)


def event_values(uid: str, event: Event) -> dict[str, Any]:
    """Return the columns of an event."""
    return {"task_uid": uid, "seq": event.seq, "kind": event.kind, "data": event.data}


def expiry(task: AgentTask, retention_days: int) -> datetime | None:
    """Return when an ended task may be removed; None: never.

    Args:
        task: with its status.
        retention_days: of tasks that say nothing themselves; 0: they are kept.
    """
    seconds = task.spec.ttl_seconds_after_finished
    if seconds is None and not retention_days:
        return None
    kept = timedelta(days=retention_days) if seconds is None else timedelta(seconds=seconds)
    ended = task.status.completion_time if task.status is not None else None
    return (datetime.now(UTC) if ended is None else datetime.fromisoformat(ended)) + kept
