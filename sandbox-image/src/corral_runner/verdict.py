"""Why an execution ended: one cause, found from what the runner saw and what the tool said.

Pure. The order is kept in one place, ``reach``: the first cause that applies is the reason.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.execution import Execution

_LIMIT_SIGNALS = {24: "CPULimit", 25: "FileSizeLimit"}  # SIGXCPU, SIGXFSZ


class Stop:
    """The runner's own decision to end an execution."""

    __slots__ = ("limit", "message", "reason")

    def __init__(self, reason: str, message: str, limit: "dict[str, Any] | None" = None) -> None:
        self.reason = reason
        self.message = message
        self.limit = limit


class Evidence:
    """What is known of an execution after its last process is dead."""

    __slots__ = (
        "code",
        "cut_file",
        "denied_execution",
        "denied_memory",
        "denied_network",
        "disk_was_full",
        "kernel_killed",
        "number",
        "peak_tasks",
        "stop",
        "told",
    )

    def __init__(self, status: "int | None", stop: "Stop | None", told: "dict[str, Any] | None") -> None:
        #: Exit status of the tool's own process, None if a signal ended it.
        self.code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        #: The signal that ended it, None if it ended by itself.
        self.number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        self.stop = stop
        #: See ``Report.told``.
        self.told = told
        self.denied_network = False
        self.denied_execution = False
        #: Shared memory was refused because it would have exceeded the limit.
        self.denied_memory = False
        #: The kernel killed a process of the sandbox because its cgroup was full.
        self.kernel_killed = False
        self.disk_was_full = False
        #: A file is there that ends exactly at the limit of file sizes.
        self.cut_file = False
        self.peak_tasks = 0

    @property
    def failed(self) -> bool:
        return self.stop is not None or self.told is not None or self.code != 0


class Verdict:
    """The part of a result that says why."""

    __slots__ = ("error", "limit", "message", "reason")

    def __init__(
        self,
        reason: str,
        message: str,
        error: "dict[str, Any] | None" = None,
        limit: "dict[str, Any] | None" = None,
    ) -> None:
        self.reason = reason
        self.message = message
        self.error = error
        self.limit = limit


def reach(found: Evidence, execution: "Execution") -> Verdict:
    """Say why the execution ended."""
    told = found.told
    error = None if told is None else _error(told)
    if found.stop is not None:
        return Verdict(found.stop.reason, found.stop.message, error, found.stop.limit)
    for number, reason in _LIMIT_SIGNALS.items():
        # A shell says 128 + N for a child that signal N ended.
        if number in {found.number, (found.code or 0) - 128}:
            return _limit_reached(reason, execution, error)
    if told is not None and told["reason"] != "ToolError":
        limit = _limit(told["reason"], execution)
        # A tool may only know that something was refused: which limit it was, is said for it.
        message = told["message"] if limit is None else f"{_reached(limit)}: {told['message']}"
        return Verdict(told["reason"], message, error, limit)
    if not found.failed:
        return Verdict("Completed", "")
    if found.kernel_killed:
        return _limit_reached("OutOfMemory", execution, error, enforced_by="cgroup")
    # The tool failed, and says nothing of why: what the sandbox saw decides.
    return _evident(found, execution, error)


def _evident(found: Evidence, execution: "Execution", error: "dict[str, Any] | None") -> Verdict:
    if found.denied_network:
        shown = {**(error or {"type": "NetworkDenied", "message": "no socket could be made"})}
        shown["rule"] = f"network: {execution.network}"
        message = "the tool tried to use the network, and its task has network: none"
        return Verdict("NetworkDenied", message, shown)
    if found.denied_execution:
        shown = {**(error or {"type": "PermissionDenied", "message": ""}), "rule": "permissions: execute"}
        message = "the tool tried to execute a program without the execute permission"
        return Verdict("PermissionDenied", message, shown)
    limits = (
        (found.disk_was_full, "DiskLimit"),
        (found.cut_file, "FileSizeLimit"),
        (found.denied_memory, "OutOfMemory"),
        (found.peak_tasks >= execution.limits.processes > 1, "ProcessLimit"),
    )
    for reached, reason in limits:
        if reached:
            return _limit_reached(reason, execution, error)
    if error is not None:
        return Verdict("ToolError", error["message"], error)
    if found.number is not None:
        return Verdict("ToolError", f"the tool was killed by signal {found.number}")
    return Verdict("ToolError", f"the tool ended with exit status {found.code}")


def exceeded(reason: str, name: str, value: float, unit: str, enforced_by: str) -> Stop:
    """Make the decision to end an execution because of a limit."""
    limit = {"name": name, "value": value, "unit": unit, "enforcedBy": enforced_by}
    return Stop(reason, f"the {name} limit of {_amount(value, unit)} was exceeded", limit)


def _amount(value: float, unit: str) -> str:
    """An amount as a person would say it, and as a manifest would."""
    if unit == "bytes":
        for suffix, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
            if value >= size and value % size == 0:
                return f"{int(value // size)}{suffix}"
    shown = str(value).removesuffix(".0")
    return shown if unit == "count" else f"{shown} {unit}"


def _error(told: "dict[str, Any]") -> "dict[str, Any]":
    named: dict[str, Any] = {
        name: told[name] for name in ("field", "rule", "details", "cause") if name in told
    }
    return {"type": told.get("errorType", "ToolFailure"), "message": told["message"], **named}


def _limit_reached(
    reason: str, execution: "Execution", error: "dict[str, Any] | None", enforced_by: "str | None" = None
) -> Verdict:
    limit = _limit(reason, execution)
    assert limit is not None
    if enforced_by is not None:
        limit["enforcedBy"] = enforced_by
    return Verdict(reason, _reached(limit), error, limit)


def _reached(limit: "dict[str, Any]") -> str:
    return f"the {limit['name']} limit of {_amount(limit['value'], limit['unit'])} was reached"


def _limit(reason: str, execution: "Execution") -> "dict[str, Any] | None":
    """Describe the limit behind a reason that was found out afterwards."""
    limits = execution.limits
    known: dict[str, tuple[str, float, str, str]] = {
        "CPULimit": ("cpuTime", limits.cpu_seconds, "seconds", "RLIMIT_CPU"),
        "FileSizeLimit": ("fileSize", limits.file_size_bytes, "bytes", "RLIMIT_FSIZE"),
        "DiskLimit": ("disk", limits.disk_bytes, "bytes", "file system size"),
        "OutOfMemory": ("memory", limits.memory_bytes, "bytes", "RLIMIT_DATA"),
        "ProcessLimit": ("processes", limits.processes, "count", "RLIMIT_NPROC"),
        "OutputLimit": ("result", limits.result_bytes, "bytes", "runner pipe"),
    }
    if reason not in known:
        return None
    name, value, unit, enforced_by = known[reason]
    return {"name": name, "value": value, "unit": unit, "enforcedBy": enforced_by}
