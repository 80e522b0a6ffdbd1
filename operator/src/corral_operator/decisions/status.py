"""The status of a task, made from the statuses of its executions. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.api import (
    AgentTaskStatus,
    Condition,
    ConditionStatus,
    ExecutionError,
    ExecutionStatus,
    Reason,
    Timings,
    phase_of,
    time_text,
)

ACCEPTED, STARTED, FINISHED = "Accepted", "Started", "Finished"
#: Reasons of conditions that are no reasons of an end; those are in ``corral.api.Reason``.
WAITING_FOR_SANDBOX = "WaitingForSandbox"
STARTING_SANDBOX = "StartingSandbox"
SANDBOX_ASSIGNED = "SandboxAssigned"

#: metav1.Condition takes 32,768 characters; nobody reads as many, and the execution has the whole.
_MOST_MESSAGE = 4096


def ended(
    execution: ExecutionStatus,
    reason: Reason,
    message: str,
    now: datetime,
    *,
    field: str | None = None,
    rule: str | None = None,
) -> ExecutionStatus:
    """Return an execution ended from outside. What is known of it so far is kept."""
    timings = (execution.timings or Timings()).model_copy(update={"finished": time_text(now)})
    return execution.model_copy(
        update={
            "phase": phase_of(reason),
            "reason": reason,
            "message": message,
            "error": ExecutionError(type=reason.value, message=message, field=field, rule=rule),
            "timings": timings,
        }
    )


def condition(
    previous: Sequence[Condition],
    kind: str,
    *,
    holds: bool,
    reason: str,
    message: str,
    now: datetime,
    generation: int,
) -> Condition:
    """Return a condition; the time of its last change is kept where its status stays the same."""
    status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    before = next((one for one in previous if one.type == kind), None)
    changed = before is None or before.status is not status
    return Condition.model_construct(
        type=kind,
        status=status,
        reason=reason,
        message=message[:_MOST_MESSAGE],
        last_transition_time=time_text(now) if changed or before is None else before.last_transition_time,
        observed_generation=generation,
    )


def with_condition(conditions: Sequence[Condition], new: Condition) -> tuple[Condition, ...]:
    """Return the conditions with one of them replaced or added, in their usual order."""
    order = {ACCEPTED: 0, STARTED: 1, FINISHED: 2}
    kept = [one for one in conditions if one.type != new.type]
    return tuple(sorted([*kept, new], key=lambda one: order.get(one.type, len(order))))


def waiting_message(executions: Iterable[ExecutionStatus]) -> str:
    """Say in one sentence what a task waits for."""
    return "; ".join(
        execution.message for execution in executions if execution.reason is None and execution.message
    )


def was_started(status: AgentTaskStatus) -> bool:
    """Whether a sandbox was ever assigned."""
    return status.start_time is not None
