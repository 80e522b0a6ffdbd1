"""What becomes of a program that ran without the runner: what it cannot be given, and why it ended. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.sandbox.port import ExecutionRequest

#: 128 + SIGXCPU and 128 + SIGXFSZ, as the engine tells an end by a signal.
_CPU_STATUS, _FILE_STATUS = 152, 153
_KILLED_STATUS = 137
_LIMITS = {
    "OutOfMemory": ("memory", "bytes", "cgroup"),
    "CPULimit": ("cpuTime", "seconds", "RLIMIT_CPU"),
    "FileSizeLimit": ("fileSize", "bytes", "RLIMIT_FSIZE"),
    "OutputLimit": ("output", "bytes", "backend's count"),
    "DeadlineExceeded": ("timeout", "seconds", "backend's clock"),
    "IdleTimeout": ("idleTimeout", "seconds", "backend's clock"),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a program that has ended."""

    #: Why it was ended from outside, None if it ended by itself.
    stop: str | None
    exit_code: int
    oom_killed: bool
    stdout: bytes
    wall_seconds: float
    output_bytes: int
    truncated: bool


def unsupported(request: ExecutionRequest, *, half_closes: bool) -> str | None:  # noqa: PLR0911 - one a field
    """Name the field that only the runner could honour, None if the program can run without it.

    Args:
        request: what is asked.
        half_closes: the connection to the daemon can end standard input and go on with the output.
    """
    without = "needs the runner, which this image does not have (run.command.hasRunner: false)"
    if "command" not in request.run:
        return f"spec.run: a function or a built-in tool {without}"
    if request.outputs:
        return f"spec.outputs {without}"
    if request.allowed_paths != (".",):
        return f"allowedPaths {without}"
    if not {"execute", "admin"} & set(request.permissions):
        return f"spec.permissions: a tool without the execute permission {without}"
    if request.network != "none":
        return f"spec.network {without}"
    if "stdin" in request.run and not half_closes:
        return "spec.run.command.stdin cannot be ended over a connection by TLS or SSH to the Docker daemon"
    return None


def result(request: ExecutionRequest, ended: Ended) -> dict[str, Any]:
    """Return the fields of the ``result`` frame."""
    reason, message, value = _reason(request, ended)
    by_signal = ended.exit_code > 128 and ended.exit_code - 128 < 65
    return {
        "reason": reason,
        "message": message,
        "exitCode": None if by_signal else ended.exit_code,
        "signal": ended.exit_code - 128 if by_signal else None,
        "result": value,
        "error": None,
        "limit": _limit(reason, request),
        "truncated": ended.truncated,
        "denials": [],
        "files": [],
        "usage": {"wallSeconds": round(ended.wall_seconds, 6), "outputBytes": ended.output_bytes},
    }


def _reason(request: ExecutionRequest, ended: Ended) -> tuple[str, str, Any]:
    """Find the reason, its message and the tool's value; the first cause that applies."""
    stopped = _stopped(request, ended)
    if stopped is not None:
        return *stopped, None
    if ended.exit_code != 0:
        return "ToolError", f"the tool ended with exit status {ended.exit_code}", None
    if request.run.get("resultFormat") != "json":
        return "Completed", "", None
    try:
        return "Completed", "", json.loads(ended.stdout, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        message = f"the command's output is not JSON, as its resultFormat says it is: {error}"
        return "ToolError", message, None


def _stopped(request: ExecutionRequest, ended: Ended) -> tuple[str, str] | None:
    if ended.stop == "Cancelled":
        return "Cancelled", "the task was cancelled"
    if ended.stop is not None:
        return ended.stop, f"the {_LIMITS[ended.stop][0]} limit was exceeded"
    if ended.oom_killed and ended.exit_code != 0:
        return "OutOfMemory", "the memory limit was reached"
    if ended.exit_code == _CPU_STATUS or (
        ended.exit_code == _KILLED_STATUS and ended.wall_seconds >= request.limits.cpu_seconds + 1
    ):
        return "CPULimit", "the cpuTime limit was reached"
    if ended.exit_code == _FILE_STATUS:
        return "FileSizeLimit", "the fileSize limit was reached"
    return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _limit(reason: str, request: ExecutionRequest) -> Mapping[str, Any] | None:
    if reason not in _LIMITS:
        return None
    name, unit, enforced_by = _LIMITS[reason]
    limits = request.limits
    value = {
        "memory": limits.memory_bytes,
        "cpuTime": limits.cpu_seconds,
        "fileSize": limits.file_size_bytes,
        "output": limits.output_bytes,
        "timeout": limits.wall_seconds,
        "idleTimeout": limits.idle_seconds,
    }[name]
    return {"name": name, "value": value, "unit": unit, "enforcedBy": enforced_by}
