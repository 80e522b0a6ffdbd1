"""What of a task is too large for its status, put back into it as far as an answer has room."""

import json
import logging

from corral.api import AgentTask, ExecutionOutput, ExecutionStatus, Reason
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.service import TaskService

log = logging.getLogger(__name__)

#: Of all that a task printed and gave; an answer has no room for more.
_MOST_BYTES = 3 << 20


async def with_stored(task: AgentTask, tasks: TaskService) -> AgentTask:
    """Return an ended task with its output and results from the store. What is too large stays there, and is missed."""
    if task.status is None or not any(execution.stored for execution in task.executions):
        return task
    room = _MOST_BYTES
    executions: list[ExecutionStatus] = []
    for execution in reversed(task.executions):  # the last one's result is the task's
        room, whole = await _whole(task, execution, tasks, room)
        executions.insert(0, whole)
    status = task.status.model_copy(update={"executions": tuple(executions)})
    return task.model_copy(update={"status": status})


async def _whole(
    task: AgentTask, execution: ExecutionStatus, tasks: TaskService, room: int
) -> tuple[int, ExecutionStatus]:
    """Return the room that is left, and an execution with what there was room for."""
    if not execution.stored:
        return room, execution
    # What is cut in the status is whole in the store, unless the tool printed more than it may.
    cut = {"truncated": execution.reason is Reason.OUTPUT_LIMIT}
    output = (execution.output or ExecutionOutput()).model_copy(update=cut)
    for stored in execution.stored:
        data = await _read(task, execution, stored.name, tasks) if stored.size <= room else None
        room -= 0 if data is None else stored.size
        if data is None:
            output = output.model_copy(update={"truncated": True})
        elif stored.name == "result":
            execution = execution.model_copy(update={"result": json.loads(data)})
        else:
            output = output.model_copy(update={stored.name: data.decode(errors="replace")})
    return room, execution.model_copy(update={"output": output})


async def _read(task: AgentTask, execution: ExecutionStatus, name: str, tasks: TaskService) -> bytes | None:
    """Return it; None: the store does not give it. The task has run all the same, and is not refused for that."""
    try:
        return await tasks.stored_output(task, execution, name)
    except ProblemError:
        log.exception("the %s of %s is not in the answer", name, execution.name)
        return None
