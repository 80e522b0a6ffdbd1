"""Why an execution ended: a closed list, one cause each (FEATURES M2)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Reason(StrEnum):
    """The typed reason of a finished execution, the same in status, result, metrics and audit."""

    COMPLETED = "Completed"
    TOOL_ERROR = "ToolError"
    INVALID_ARGUMENTS = "InvalidArguments"
    TOOL_NOT_FOUND = "ToolNotFound"
    PERMISSION_DENIED = "PermissionDenied"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    PROCESS_LIMIT = "ProcessLimit"
    DISK_LIMIT = "DiskLimit"
    OUTPUT_LIMIT = "OutputLimit"
    CPU_LIMIT = "CPULimit"
    NETWORK_DENIED = "NetworkDenied"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    SANDBOX_FAILED = "SandboxFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CANCELLED = "Cancelled"
    FILE_SIZE_LIMIT = "FileSizeLimit"
    IDLE_TIMEOUT = "IdleTimeout"
    STEP_FAILED = "StepFailed"
    UNSUPPORTED = "Unsupported"
    INVALID_SPEC = "InvalidSpec"
    UNSCHEDULABLE = "Unschedulable"
    ADMISSION_REFUSED = "AdmissionRefused"


class ReasonDoc(NamedTuple):
    """What a person is told about a reason."""

    #: What happened, in one sentence.
    summary: str
    #: What to do, in one sentence.
    remedy: str
    #: The cause lies outside the tool and may have gone: `spec.retry` may name it. Where the tool may have
    #: begun already, a retry additionally needs a tool that is declared idempotent.
    retry_safe: bool


REASON_DOCS: Mapping[Reason, ReasonDoc] = MappingProxyType(
    {
        Reason.COMPLETED: ReasonDoc(
            "The tool ended well.", "Nothing to do; the result is in the status.", False
        ),
        Reason.TOOL_ERROR: ReasonDoc(
            "The tool itself failed: it raised an error or ended with an exit code other than 0.",
            "Read the error and the output; the sandbox and its limits were not the cause.",
            False,
        ),
        Reason.INVALID_ARGUMENTS: ReasonDoc(
            "The arguments do not fit the tool's input schema, or the tool refused a value.",
            "Correct the field that the message names; `corral tools show NAME` prints the schema.",
            False,
        ),
        Reason.TOOL_NOT_FOUND: ReasonDoc(
            "No tool of this name is registered where the task runs.",
            "Look for it with `corral tools`, or apply the Tool first.",
            False,
        ),
        Reason.PERMISSION_DENIED: ReasonDoc(
            "The policy or the sandbox forbids what the task or the tool wanted to do.",
            "The rule is named in the message; ask whoever owns the policy for the grant, or ask for less.",
            False,
        ),
        Reason.DEADLINE_EXCEEDED: ReasonDoc(
            "The wall-clock limit passed before the tool ended; what it printed until then is kept.",
            "Raise limits.timeout, or give the tool less to do.",
            False,
        ),
        Reason.OUT_OF_MEMORY: ReasonDoc(
            "The tool needed more memory than limits.memory.",
            "Raise limits.memory, or work on less data at a time.",
            False,
        ),
        Reason.PROCESS_LIMIT: ReasonDoc(
            "The tool wanted more processes and threads at once than limits.processes.",
            "Raise limits.processes, or start fewer; libraries often start one thread per core.",
            False,
        ),
        Reason.DISK_LIMIT: ReasonDoc(
            "Workspace, /tmp and /dev/shm together reached limits.disk.",
            "Raise limits.disk, or write less.",
            False,
        ),
        Reason.OUTPUT_LIMIT: ReasonDoc(
            "The tool printed more than limits.output, or its result or a file to bring back was too large.",
            "Print less, write to a file named in outputs, or raise limits.output.",
            False,
        ),
        Reason.CPU_LIMIT: ReasonDoc(
            "The tool used up the CPU seconds of limits.cpuTime.",
            "Raise limits.cpuTime, or look for an endless loop.",
            False,
        ),
        Reason.NETWORK_DENIED: ReasonDoc(
            "The tool wanted to reach something that the task's network does not allow.",
            "Name the domain in network.allowedDomains, if it is meant to be reached.",
            False,
        ),
        Reason.EVICTED: ReasonDoc(
            "The node ran short of something and put the sandbox out.",
            "Run it again; if it repeats, give the task limits nearer to what it really uses.",
            True,
        ),
        Reason.NODE_LOST: ReasonDoc(
            "The node that ran the sandbox went away; whether the tool had finished is not known.",
            "Run it again if the tool may run twice.",
            True,
        ),
        Reason.SANDBOX_FAILED: ReasonDoc(
            "The sandbox could not be made or broke down; the tool is not the cause.",
            "Run it again; if it repeats, `corral doctor` says what this machine lacks.",
            True,
        ),
        Reason.IMAGE_PULL_FAILED: ReasonDoc(
            "The sandbox's image could not be fetched.",
            "Check the image's name, the registry and its credentials.",
            True,
        ),
        Reason.QUOTA_EXCEEDED: ReasonDoc(
            "There was no capacity or quota left for the task; nothing ran.",
            "Come back after the time given in retryAfter, or ask for a larger quota.",
            True,
        ),
        Reason.CANCELLED: ReasonDoc(
            "Somebody cancelled or deleted the task.", "Create it again if it is still wanted.", False
        ),
        Reason.FILE_SIZE_LIMIT: ReasonDoc(
            "One file grew larger than limits.fileSize.",
            "Raise limits.fileSize, or split the file.",
            False,
        ),
        Reason.IDLE_TIMEOUT: ReasonDoc(
            "The tool printed nothing for as long as limits.idleTimeout.",
            "Let it report progress, or raise limits.idleTimeout.",
            False,
        ),
        Reason.STEP_FAILED: ReasonDoc(
            "A chain ended because one of its steps did not complete.",
            "Look at that step's own reason; onFailure: Continue lets a chain go on without it.",
            False,
        ),
        Reason.UNSUPPORTED: ReasonDoc(
            "This backend cannot give what the task asks for; nothing ran.",
            "Run it on a backend that can, or take the field out that the message names.",
            False,
        ),
        Reason.INVALID_SPEC: ReasonDoc(
            "The manifest is wrong; nothing ran.",
            "Correct the field that the message names.",
            False,
        ),
        Reason.UNSCHEDULABLE: ReasonDoc(
            "No node of the cluster had room for the sandbox in time, or none fits what it asks for; nothing ran.",
            "Ask for less, come back later, or give the cluster more nodes; the message has the scheduler's words.",
            True,
        ),
        Reason.ADMISSION_REFUSED: ReasonDoc(
            "The cluster's own rules (admission policies, Pod Security) refused the sandbox's pod; nothing ran.",
            "The message names the rule; ask whoever runs the cluster, or ask for less in the task.",
            False,
        ),
    }
)

#: What `spec.retry.reasons` may name.
RETRY_SAFE_REASONS: tuple[Reason, ...] = tuple(
    reason for reason, doc in REASON_DOCS.items() if doc.retry_safe
)
