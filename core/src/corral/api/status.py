"""What became of a task: the status of an AgentTask."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from corral.api.files import OutputFile
from corral.api.metadata import Condition
from corral.api.model import AnyJson, ApiModel, Bool, Int, Number, Timestamp
from corral.api.reasons import Reason

_Count = Annotated[Int, Field(ge=0)]
_Seconds = Annotated[Number, Field(ge=0)]


class Phase(StrEnum):
    """The phase of a task or an execution, for people; programs read the reason and the conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


_ENDS = {Reason.COMPLETED: Phase.SUCCEEDED, Reason.CANCELLED: Phase.CANCELLED}


def phase_of(reason: Reason) -> Phase:
    """Return the phase of something that ended so."""
    return _ENDS.get(reason, Phase.FAILED)


def time_text(moment: datetime) -> str:
    """Return a time as it stands in a status: UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class SandboxStatus(ApiModel):
    """Where the task ran and what stood around it."""

    backend: str | None = Field(None, description="kubernetes, docker or embedded.")
    pod_name: str | None = Field(None, description="The pod, on Kubernetes.")
    pod_uid: str | None = Field(None, alias="podUID", description="UID of the pod.")
    node: str | None = Field(None, description="The node or machine.")
    warm: Bool | None = Field(None, description="The sandbox came out of a pool.")
    resized: Bool | None = Field(
        None, description="A waiting sandbox was given more CPU or memory in place for this execution."
    )
    isolation: tuple[str, ...] = Field((), description="The layers of isolation that held, such as seccomp.")
    weakened: tuple[str, ...] = Field(
        (), description="Layers that this machine could not give or that were off."
    )


class ExecutionOutput(ApiModel):
    """What the tool printed."""

    stdout: str = Field("", description="Standard output; bytes that are not UTF-8 are replaced.")
    stderr: str = Field("", description="Standard error; bytes that are not UTF-8 are replaced.")
    truncated: Bool = Field(False, description="Output was cut at a limit.")


class StoredContent(ApiModel):
    """Something that is too large for a status, whole in the gateway's object store."""

    name: Annotated[str, Field(max_length=16)] = Field(
        description="stdout, stderr or result: GET /v1/tasks/ID/output/NAME returns it."
    )
    size: _Count = Field(description="Bytes.")
    sha256: Annotated[str, Field(max_length=64)] = Field(description="SHA-256 of the content.")


class ExecutionError(ApiModel):
    """What went wrong, for programs."""

    type: str = Field(description="The kind of error, such as ValueError.")
    message: str = Field("", description="One sentence for people.")
    field: str | None = Field(None, description="The argument or field that is wrong.")
    rule: str | None = Field(None, description="The rule that forbade it.")
    details: AnyJson = Field(None, description="What else the tool said about it.")


class LimitBreach(ApiModel):
    """The limit that ended the execution."""

    name: str = Field(description="The field of limits, such as memory.")
    value: Number = Field(description="What it was set to, in the unit given.")
    unit: str = Field("", description="bytes, seconds or a count.")
    enforced_by: str | None = Field(None, description="What enforced it, such as cgroup or rlimit.")


class Denial(ApiModel):
    """Something that the sandbox refused."""

    syscall: str = Field(description="The system call, or the kind of request.")
    detail: str = Field("", description="What exactly, such as the address.")
    count: _Count = Field(1, description="How often.")


class Usage(ApiModel):
    """What the execution used."""

    cpu_seconds: _Seconds | None = Field(None, description="CPU time, all processes.")
    peak_memory_bytes: _Count | None = Field(None, description="The most memory at once.")
    peak_processes: _Count | None = Field(None, description="The most processes and threads at once.")
    wall_seconds: _Seconds | None = Field(None, description="Wall-clock time from start to end of the tool.")
    output_bytes: _Count | None = Field(None, description="Bytes printed.")
    written_bytes: _Count | None = Field(None, description="Bytes written to files.")


class Timings(ApiModel):
    """When each phase began."""

    queued: Timestamp | None = Field(None, description="The task was seen.")
    claimed: Timestamp | None = Field(None, description="A sandbox was assigned.")
    started: Timestamp | None = Field(None, description="The tool started.")
    finished: Timestamp | None = Field(None, description="The tool ended.")


class ExecutionStatus(ApiModel):
    """One execution of one tool."""

    name: str = Field(description="The step's name; main for a task of one tool.")
    tool: str = Field(description="The tool.")
    attempt: _Count = Field(1, description="Which attempt, from 1.")
    phase: Phase = Field(Phase.PENDING, description="Pending, Running, Succeeded, Failed or Cancelled.")
    reason: Reason | None = Field(None, description="Why it ended.")
    message: str | None = Field(None, description="The same in one sentence for people.")
    exit_code: Int | None = Field(None, description="The exit code, where the tool ended by itself.")
    signal: Int | None = Field(None, description="The signal that ended it.")
    output: ExecutionOutput | None = Field(None, description="What it printed.")
    result: AnyJson = Field(None, description="The tool's structured result.")
    error: ExecutionError | None = Field(None, description="What went wrong.")
    limit: LimitBreach | None = Field(None, description="The limit that ended it.")
    denials: tuple[Denial, ...] = Field((), description="What the sandbox refused.")
    files: tuple[OutputFile, ...] = Field((), description="The files brought back.")
    stored: tuple[StoredContent, ...] = Field(
        (), description="What is too large to stand here, and where it is; output here is then its beginning."
    )
    usage: Usage | None = Field(None, description="What it used.")
    timings: Timings | None = Field(None, description="When each phase began.")
    sandbox: SandboxStatus | None = Field(None, description="Where it ran. Written before it starts.")

    @property
    def succeeded(self) -> bool:
        """The execution ended well."""
        return self.reason is Reason.COMPLETED


class AgentTaskStatus(ApiModel):
    """What became of a task."""

    observed_generation: _Count | None = Field(
        None, description="The generation of the spec that this speaks of."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Accepted, Started and Finished.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    phase: Phase | None = Field(
        None, description="Pending, Running, Succeeded, Failed or Cancelled; for people."
    )
    reason: Reason | None = Field(None, description="Why the task ended; absent while it has not.")
    message: str | None = Field(None, description="The same in one sentence for people.")
    attempt: _Count | None = Field(None, description="Which attempt, from 1.")
    queue_position: _Count | None = Field(
        None, description="How many tasks go first, this one included, while it waits for a sandbox."
    )
    retry_after_seconds: _Count | None = Field(
        None, description="When to come back, where the task was refused for want of capacity."
    )
    sandbox: SandboxStatus | None = Field(
        None, description="Where the latest execution ran and what stood around it."
    )
    executions: tuple[ExecutionStatus, ...] = Field((), description="One entry per execution of a tool.")
    start_time: Timestamp | None = Field(None, description="When the first execution started.")
    completion_time: Timestamp | None = Field(None, description="When the task ended.")
