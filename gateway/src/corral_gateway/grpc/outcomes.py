"""What is told of a task that has ended: an answer, or a refusal where the request itself was the cause. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType

from corral.api import AgentTask, ExecutionStatus, Phase, Reason
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.json_values import struct_of, value_of
from corral_gateway.problems import ProblemError

#: Reasons that end a call with a gRPC status. Every other end is an answer, with a status of its own.
#: "Memory or rate limit exceeded" is RESOURCE_EXHAUSTED by the Agent Core API.
REFUSING: Mapping[Reason, HTTPStatus] = MappingProxyType(
    {
        Reason.TOOL_NOT_FOUND: HTTPStatus.NOT_FOUND,
        Reason.INVALID_ARGUMENTS: HTTPStatus.BAD_REQUEST,
        Reason.INVALID_SPEC: HTTPStatus.BAD_REQUEST,
        Reason.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
        Reason.ADMISSION_REFUSED: HTTPStatus.FORBIDDEN,
        Reason.UNSUPPORTED: HTTPStatus.NOT_IMPLEMENTED,
        Reason.OUT_OF_MEMORY: HTTPStatus.TOO_MANY_REQUESTS,
        Reason.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
        Reason.SANDBOX_FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.EVICTED: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.NODE_LOST: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.IMAGE_PULL_FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.UNSCHEDULABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_STATUSES = {
    Reason.COMPLETED: pb.STATUS_CODE_OK,
    Reason.CANCELLED: pb.STATUS_CODE_CANCELLED,
    Reason.DEADLINE_EXCEEDED: pb.STATUS_CODE_TIMEOUT,
    Reason.IDLE_TIMEOUT: pb.STATUS_CODE_TIMEOUT,
}
_STATES = {Phase.SUCCEEDED: pb.AGENT_STATE_COMPLETED, Phase.CANCELLED: pb.AGENT_STATE_CANCELLED}
#: What a client takes in by default is 4 MiB; the rest is for all that is not output.
MOST_BYTES = 4 << 20
_MOST_OUTPUT_BYTES = 3 << 20


def refusal_of(task: AgentTask) -> ProblemError | None:
    """Return why a call ends with a gRPC status; None: it is answered."""
    status = None if task.reason is None else REFUSING.get(task.reason)
    if status is None or task.reason is None:
        return None
    told = task.status.message if task.status is not None else None
    retry = task.status.retry_after_seconds if task.status is not None else None
    return ProblemError(
        status,
        task.reason.value,
        told or task.reason.value,
        remedy=f"GET /v1/tasks/{task.metadata.uid} has what it printed",
        retry_after_seconds=retry,
    )


def response_of(task: AgentTask) -> pb.ExecuteTaskResponse:
    """Return the answer that tells of a task, no larger than a client takes in by default."""
    share = _MOST_OUTPUT_BYTES // (len(task.executions) + 1)
    response = pb.ExecuteTaskResponse(
        task_id=task.metadata.uid or "",
        status=_status_code(task.reason),
        result=_cut(_result_text(task), share)[0],
        tool_calls=[call_of(task, execution.name, execution.tool) for execution in task.executions],
        tool_results=[result_of(execution, share) for execution in task.executions],
        metrics=_metrics(task),
        error_message=_error_message(task),
        final_state=state_of(task),
    )
    for result in response.tool_results:
        if response.ByteSize() <= MOST_BYTES:
            break
        result.ClearField("output")
        result.ClearField("output_json")
        result.truncated = True
    return response


def state_of(task: AgentTask) -> pb.AgentState.ValueType:
    """Return where a task stands that has ended."""
    phase = task.status.phase if task.status is not None else None
    return pb.AGENT_STATE_FAILED if phase is None else _STATES.get(phase, pb.AGENT_STATE_FAILED)


def call_of(task: AgentTask, name: str, tool: str = "") -> pb.ToolCall:
    """Return a call of a task, by the name of its execution."""
    step = next((step for step in task.spec.steps if step.name == name), None)
    if step is None:
        arguments, tool = task.spec.arguments, tool or task.spec.tool or ""
    else:
        arguments, tool = step.arguments, step.tool
    return pb.ToolCall(tool_name=tool, parameters=struct_of(arguments), call_id=name)


def result_of(execution: ExecutionStatus, most_bytes: int = _MOST_OUTPUT_BYTES) -> pb.ToolResult:
    """Return what came of a call, with no more of its result and of its output than so many bytes each."""
    output = execution.output
    usage = execution.usage
    stdout, no_stdout = _cut("" if output is None else output.stdout, most_bytes // 3)
    stderr, no_stderr = _cut("" if output is None else output.stderr, most_bytes // 3)
    result = pb.ToolResult(
        tool_name=execution.tool,
        status=_status_code(execution.reason),
        error_message="" if execution.succeeded else execution.message or "",
        duration_ms=round((usage.wall_seconds or 0) * 1000) if usage is not None else 0,
        call_id=execution.name,
        reason="" if execution.reason is None else execution.reason.value,
        stdout=stdout,
        stderr=stderr,
        truncated=no_stdout or no_stderr or (output is not None and output.truncated),
    )
    if execution.result is not None:
        value = value_of(execution.result)
        if value is not None:
            result.output.CopyFrom(value)
        else:
            result.output_json = json.dumps(execution.result, ensure_ascii=False)
    return result


def result_text(task: AgentTask) -> str:
    """Return a task's result as text, cut where it is longer than a client takes in."""
    return _cut(_result_text(task), _MOST_OUTPUT_BYTES)[0]


def _result_text(task: AgentTask) -> str:
    result = task.result
    if result is None:
        return task.stdout
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _error_message(task: AgentTask) -> str:
    if task.succeeded or task.reason is None or task.status is None:
        return ""
    return f"{task.reason}: {task.status.message or ''}".rstrip(": ")


def _status_code(reason: Reason | None) -> pb.StatusCode.ValueType:
    return pb.STATUS_CODE_ERROR if reason is None else _STATUSES.get(reason, pb.STATUS_CODE_ERROR)


def _metrics(task: AgentTask) -> pb.ExecutionMetrics:
    usages = [execution.usage for execution in task.executions if execution.usage is not None]
    return pb.ExecutionMetrics(
        latency_ms=_latency_ms(task),
        cpu_seconds=sum(usage.cpu_seconds or 0 for usage in usages),
        peak_memory_bytes=max((usage.peak_memory_bytes or 0 for usage in usages), default=0),
        executions=len(task.executions),
    )


def _latency_ms(task: AgentTask) -> int:
    ended = task.status.completion_time if task.status is not None else None
    if task.metadata.creation_timestamp is None or ended is None:
        return 0
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(task.metadata.creation_timestamp)
    return max(0, round(took.total_seconds() * 1000))


def _cut(text: str, most_bytes: int) -> tuple[str, bool]:
    """Return as much of a text as has so many bytes, and whether that is not all."""
    if len(text) * 4 <= most_bytes:
        return text, False
    data = text.encode()
    return data[:most_bytes].decode(errors="ignore"), len(data) > most_bytes
