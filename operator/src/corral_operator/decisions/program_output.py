"""The result of a program that ended well: its output, as the tool says it is to be read."""

import json
from datetime import datetime

from corral.api import ExecutionStatus, Phase, Reason, Timings, time_text
from corral.api.json_values import json_problem
from corral_operator.decisions.status import ended


def with_program_result(execution: ExecutionStatus, json_result: bool, now: datetime) -> ExecutionStatus:  # noqa: FBT001
    """Return the execution as completed, with its result.

    Args:
        execution: with its output.
        json_result: the output is one JSON value; if it is none, the execution ends with ``ToolError``.
        now: when it ended.
    """
    text = execution.output.stdout if execution.output is not None else ""
    result: object = text
    problem: object
    if json_result:
        try:
            result = json.loads(text)
            problem = json_problem(result)
        except (ValueError, RecursionError) as error:
            problem = str(error)
        if problem is not None:
            message = f"the program's output is not JSON, as its resultFormat says it is: {problem}"
            return ended(execution, Reason.TOOL_ERROR, message, now)
    timings = (execution.timings or Timings()).model_copy(update={"finished": time_text(now)})
    return execution.model_copy(
        update={
            "phase": Phase.SUCCEEDED,
            "reason": Reason.COMPLETED,
            "message": None,
            "result": result,
            "timings": timings,
        }
    )
