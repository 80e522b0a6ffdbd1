"""The status of a task as a whole, from a draft. Pure."""

from datetime import timedelta
from typing import Any

from corral.api import AgentTaskStatus, Condition, ExecutionStatus, Phase, Reason, phase_of, time_text
from corral_operator.decisions import status as statuses
from corral_operator.decisions.actions import Plan, Tell
from corral_operator.decisions.draft import Draft

#: A queue moves often; people read its position now and then.
_POSITION_EVERY = timedelta(seconds=5)
#: Ends that say that the task itself was not accepted: nothing of it can ever run as it stands.
_NOT_ACCEPTED = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.INVALID_ARGUMENTS,
        Reason.TOOL_NOT_FOUND,
        Reason.PERMISSION_DENIED,
        Reason.UNSUPPORTED,
        Reason.QUOTA_EXCEEDED,
    }
)


def unfinished(draft: Draft) -> Plan:
    """Return the plan of a task that goes on."""
    _drop_pods_of_ended_attempts(draft)
    before, executions = draft.task.status, _ordered(draft)
    running = any(execution.sandbox is not None for execution in executions)
    waits = statuses.waiting_message(executions)
    ended = any(execution.reason is not None for execution in executions)
    if not (running or ended or waits or before.conditions):
        return _plan(draft, before)  # nothing worth a write yet
    conditions = _condition(draft, before.conditions, statuses.ACCEPTED, "Accepted", "")
    if running:
        conditions = _condition(draft, conditions, statuses.STARTED, statuses.SANDBOX_ASSIGNED, "")
    elif waits and not statuses.was_started(before):
        why = statuses.WAITING_FOR_SANDBOX if draft.waiting else statuses.STARTING_SANDBOX
        conditions = _condition(draft, conditions, statuses.STARTED, why, waits, holds=False)
    start = before.start_time or (time_text(draft.now) if running else None)
    status = _status(
        draft,
        conditions=conditions,
        phase=Phase.RUNNING if start else Phase.PENDING,
        reason=None,
        message=waits or None,
        start_time=start,
        queue_position=_position(draft),
        completion_time=None,
    )
    return _plan(draft, status)


def ended(draft: Draft, reason: Reason, message: str) -> Plan:
    """Return the plan of a task that ends now."""
    before, executions = draft.task.status, _ordered(draft)
    began = any(execution.sandbox is not None for execution in executions) or statuses.was_started(before)
    accepted = began or reason not in _NOT_ACCEPTED
    conditions = _condition(
        draft,
        before.conditions,
        statuses.ACCEPTED,
        "Accepted" if accepted else reason.value,
        "" if accepted else message,
        holds=accepted,
    )
    if began:
        conditions = _condition(draft, conditions, statuses.STARTED, statuses.SANDBOX_ASSIGNED, "")
    else:
        conditions = _condition(draft, conditions, statuses.STARTED, reason.value, "nothing ran", holds=False)
    conditions = _condition(draft, conditions, statuses.FINISHED, reason.value, message)
    started = [text for one in executions if one.timings is not None and (text := one.timings.started)]
    status = _status(
        draft,
        conditions=conditions,
        phase=phase_of(reason),
        reason=reason,
        message=message or None,
        start_time=before.start_time or min(started, default=None),
        queue_position=None,
        completion_time=time_text(draft.now),
    )
    _drop_pods_of_ended_attempts(draft)
    if reason is not Reason.COMPLETED:
        draft.actions.append(Tell("Warning", reason.value, message or reason.value))
    return _plan(draft, status)


def _drop_pods_of_ended_attempts(draft: Draft) -> None:
    """Take away pods of attempts that are over, made for them or given to them.

    Whoever ended one may have died before; and a deletion that waits for a lull dies with its operator.
    """
    wanted = {
        draft.cold_pod(execution) for execution in draft.executions.values() if execution.reason is None
    }
    used = _sandboxes(draft, ended=True) - _sandboxes(draft, ended=False)
    for pod in draft.observed.pods.values():
        made = pod.owner_uid == draft.task.key.uid and pod.key.name not in wanted
        if made or pod.key.uid in used:
            draft.delete_pod(pod)


def _sandboxes(draft: Draft, *, ended: bool) -> set[str]:
    """Return the UIDs of the pods that stand in the status with executions that have ended, or have not."""
    return {
        execution.sandbox.pod_uid
        for execution in draft.executions.values()
        if execution.sandbox is not None
        and execution.sandbox.pod_uid is not None
        and (execution.reason is not None) is ended
    }


def _plan(draft: Draft, status: AgentTaskStatus) -> Plan:
    return Plan(
        status=None if status == draft.task.status else status,
        actions=tuple(draft.actions),
        claims=tuple(draft.claims),
        pools=draft.pools,
        waiting=tuple(draft.waiting),
        wake_at=draft.wake,
    )


def _ordered(draft: Draft) -> tuple[ExecutionStatus, ...]:
    spec = draft.task.spec
    if spec is None or not spec.steps:
        return tuple(draft.executions.values())
    # Of what runs nothing is forgotten, not even where the status names a step that the spec does not.
    names = dict.fromkeys([step.name for step in spec.steps if step.name in draft.executions])
    return tuple(draft.executions[name] for name in {**names, **dict.fromkeys(draft.executions)})


def _position(draft: Draft) -> int | None:
    """The best position in a queue; the one told before, while it is fresh enough."""
    found = [draft.observed.positions.get(one.execution) for one in draft.waiting]
    best = min([position for position in found if position is not None], default=None)
    if best is not None:
        # Whoever moves up because of others hears of it by looking; far back less often than near the front.
        draft.wake_at(draft.now + _POSITION_EVERY * (1 + best // 100))
    told = draft.task.status.queue_position
    if best is None or told is None or told == best:
        return best
    told_at = draft.observed.position_told
    due = None if told_at is None else told_at + _POSITION_EVERY
    if due is not None and draft.now < due:
        draft.wake_at(due)
        return told
    return best


def _condition(
    draft: Draft,
    conditions: tuple[Condition, ...],
    kind: str,
    reason: str,
    message: str,
    *,
    holds: bool = True,
) -> tuple[Condition, ...]:
    new = statuses.condition(
        conditions,
        kind,
        holds=holds,
        reason=reason,
        message=message,
        now=draft.now,
        generation=draft.task.generation,
    )
    return statuses.with_condition(conditions, new)


def _status(draft: Draft, **fields: Any) -> AgentTaskStatus:
    executions = _ordered(draft)
    sandboxes = [execution.sandbox for execution in executions if execution.sandbox is not None]
    return AgentTaskStatus.model_construct(
        observed_generation=draft.task.generation,
        attempt=max((execution.attempt for execution in executions), default=1),
        # Once said it stands: the look that refused an execution is not the one that ends the task.
        retry_after_seconds=draft.task.status.retry_after_seconds
        if draft.retry_after is None
        else draft.retry_after,
        sandbox=sandboxes[-1] if sandboxes else draft.task.status.sandbox,
        executions=executions,
        **fields,
    )
