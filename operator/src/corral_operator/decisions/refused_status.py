"""How a task ends whose status the API server does not take, now or later. Pure."""

from datetime import datetime

from corral.api import AgentTaskStatus, ExecutionStatus, Phase, Reason, time_text
from corral_operator.decisions import status as statuses
from corral_operator.decisions.actions import Plan, Tell
from corral_operator.decisions.task_view import TaskView

#: Statuses of an answer that the same request would get again: malformed, too large, against a schema or a policy.
_FOR_GOOD = frozenset({400, 413, 422})
_TOO_LARGE = 413
#: Of what the API server says: it may repeat the whole status.
_QUOTED_CHARACTERS = 300


def is_for_good(code: int) -> bool:
    """Whether an API server that answers so would answer the same again."""
    return code in _FOR_GOOD


def brings_an_end(before: AgentTaskStatus, after: AgentTaskStatus) -> bool:
    """Whether an execution, or the task, ended: what a runner told is then written for the first time."""
    known = {execution.name for execution in before.executions if execution.reason is not None}
    ended = {execution.name for execution in after.executions if execution.reason is not None}
    return after.completion_time is not None or not ended <= known


def end_without_result(task: TaskView, refused: AgentTaskStatus, code: int, said: str, now: datetime) -> Plan:
    """Return the plan that ends a task with what the API server took before, and why there is no more.

    Args:
        task: as it stands.
        refused: the status that the API server refused.
        code: its answer's status.
        said: its message.
        now: the time.
    """
    reason = Reason.OUTPUT_LIMIT if code == _TOO_LARGE else Reason.SANDBOX_FAILED
    ended = "" if refused.reason is None else f"the task ended with {refused.reason}, but "
    message = f"{ended}the API server refused the result: {code}: {said[:_QUOTED_CHARACTERS]}"
    before = task.status
    started = any(execution.sandbox is not None for execution in before.executions)
    conditions = before.conditions
    for kind, holds, why, words in (
        (statuses.ACCEPTED, True, "Accepted", ""),
        (statuses.STARTED, started, statuses.SANDBOX_ASSIGNED if started else reason.value, ""),
        (statuses.FINISHED, True, reason.value, message),
    ):
        new = statuses.condition(
            before.conditions,
            kind,
            holds=holds,
            reason=why,
            message=words,
            now=now,
            generation=task.generation,
        )
        conditions = statuses.with_condition(conditions, new)

    def end(execution: ExecutionStatus) -> ExecutionStatus:
        return execution if execution.reason is not None else statuses.ended(execution, reason, message, now)

    status = before.model_copy(
        update={
            "observed_generation": task.generation,
            "conditions": conditions,
            "phase": Phase.FAILED,
            "reason": reason,
            "message": message,
            "queue_position": None,
            "executions": tuple(end(execution) for execution in before.executions),
            "completion_time": time_text(now),
        }
    )
    return Plan(status=status, actions=(Tell("Warning", reason.value, message),))
