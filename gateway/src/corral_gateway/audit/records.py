"""The things that are recorded. What each looks like in the log is told by its ``body``. Pure.

A body is built where records are written, not where they arise: a request does not wait for it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from corral.api import AgentTask, ExecutionStatus, time_text
from corral_gateway.audit.masking import Keep, kept, plain

if TYPE_CHECKING:
    from corral_gateway.context import RequestContext

#: A larger body is remembered by its hash alone.
_MOST_HELD_BYTES = 64 << 10


class Kind(StrEnum):
    """What a record tells of."""

    #: A request that may change something, before it does.
    REQUEST_BEGUN = "request.begun"
    #: A request that was answered.
    REQUEST_ENDED = "request.ended"
    #: Requests that were turned away at the door; one or, of a flood, many.
    REQUEST_REFUSED = "request.refused"
    #: Whether a task was let through, and by what.
    DECISION = "decision"
    #: An execution of a tool that ended, or a task that ended without any.
    EXECUTION = "execution"
    #: The gateway itself.
    AUDIT_STARTED = "audit.started"
    AUDIT_STOPPED = "audit.stopped"
    #: For a time nothing could be written.
    AUDIT_INTERRUPTED = "audit.interrupted"
    #: Something that should have been recorded could not be put into words: a fault of the gateway.
    AUDIT_DAMAGED = "audit.damaged"
    #: Old records were removed, as the policy says.
    AUDIT_REMOVED = "audit.removed"


class Happening(Protocol):
    """Something to be recorded."""

    @property
    def kind(self) -> Kind:
        """What it is."""
        ...

    @property
    def at(self) -> datetime:
        """When it was."""
        ...

    def body(self, keep: Keep) -> dict[str, Any]:
        """Return what the log says of it, beyond kind and time: any JSON, in fields of the log's own names."""
        ...


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RequestInput:
    """The body of a request, as far as it is remembered."""

    sha256: str
    size_bytes: int
    #: The body itself; None: it is too large to be held until it is recorded.
    small: bytes | None

    @classmethod
    def of(cls, data: bytes) -> "RequestInput":
        """Return what is remembered of a body."""
        small = data if len(data) <= _MOST_HELD_BYTES else None
        return cls(hashlib.sha256(data).hexdigest(), len(data), small)

    def body(self, keep: Keep) -> dict[str, Any]:
        """Return it as the log has it: the hash is of the bytes that were sent."""
        said: dict[str, Any] = {"sha256": self.sha256, "bytes": self.size_bytes}
        if keep == "keep" and self.small is not None:
            try:
                value = json.loads(self.small)
            except (ValueError, RecursionError):
                return said
            said |= {name: one for name, one in kept(value, keep).items() if name not in said}
        return said


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """Who, from where, what."""

    id: str
    caller: str
    credential: str
    source: str
    user_agent: str
    transport: str
    method: str
    route: str
    target: str
    began: datetime

    @classmethod
    def of(cls, context: "RequestContext") -> "RequestFacts":
        """Return what is known of a request now."""
        caller = context.caller
        return cls(
            context.id,
            "" if caller is None else caller.name,
            "" if caller is None else caller.credential,
            context.source,
            context.user_agent,
            context.transport,
            context.method,
            context.route,
            context.target,
            context.began,
        )

    def body(self) -> dict[str, Any]:
        """Return it as the log has it."""
        return {
            "requestId": self.id,
            "caller": plain(self.caller),
            "credential": plain(self.credential),
            "source": plain(self.source),
            "userAgent": plain(self.user_agent),
            "transport": self.transport,
            "method": plain(self.method, 64),
            "route": plain(self.route),
            "target": plain(self.target),
            "began": time_text(self.began),
        }


@dataclass(frozen=True, slots=True)
class RequestBegun:
    """A request that may change something is let in."""

    request: RequestFacts
    at: datetime = field(default_factory=now)
    kind: ClassVar[Kind] = Kind.REQUEST_BEGUN

    def body(self, _keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        return self.request.body() | {"status": "started"}


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request was answered."""

    request: RequestFacts
    #: An HTTP status, or the name of a gRPC one.
    code: str
    #: It went well.
    succeeded: bool
    reason: str | None
    seconds: float
    #: The body that came with it; None: none was read.
    input: RequestInput | None = None
    #: How many of them this one record stands for.
    count: int = 1
    #: Why the tool that it waited for did not end well.
    tool_reason: str | None = None
    at: datetime = field(default_factory=now)
    kind: Kind = Kind.REQUEST_ENDED

    def body(self, keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        said = self.request.body()
        said |= {
            "status": self._status,
            "code": self.code,
            "durationMicroseconds": round(self.seconds * 1e6),
        }
        reason = self.reason or self.tool_reason
        if reason is not None:
            said["reason"] = plain(reason, 64)
        if self.input is not None:
            said["input"] = self.input.body(keep)
        if self.count != 1:
            said["count"] = self.count
        return said

    @property
    def _status(self) -> str:
        if self.succeeded:
            return "success" if self.tool_reason is None else "tool_error"
        return "refused" if self.kind is Kind.REQUEST_REFUSED else "error"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a task may be."""

    request_id: str
    caller: str
    task: AgentTask
    allowed: bool
    #: What decided it: a guard, by its name; empty: all of them let it through.
    decided_by: str
    reason: str | None
    #: The task whose result from before was the answer, so that nothing was executed; empty: none.
    answered_from: str = ""
    at: datetime = field(default_factory=now)
    kind: ClassVar[Kind] = Kind.DECISION

    def body(self, keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        tools = self.task.spec.called_tools
        said: dict[str, Any] = {
            "requestId": self.request_id,
            "taskUid": self.task.metadata.uid or "",
            "caller": plain(self.caller),
            "tools": [plain(tool) for tool in tools],
            "allowed": self.allowed,
            "decidedBy": self.decided_by,
            "input": kept(_inputs(self.task), keep),
        }
        if self.answered_from:
            said["answeredFrom"] = self.answered_from
        if len(tools) == 1:
            said["tool"] = plain(tools[0])
        if self.reason is not None:
            said["reason"] = plain(self.reason, 64)
        return said


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """An execution of a task that has ended, whoever made it; None: the task ended without any."""

    task: AgentTask
    execution: ExecutionStatus | None
    caller: str
    at: datetime = field(default_factory=now)
    kind: ClassVar[Kind] = Kind.EXECUTION

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is told from any other by: the task, the name in it, the attempt."""
        one = self.execution
        return self.task.metadata.uid or "", *(("", 0) if one is None else (one.name, one.attempt))

    def body(self, keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        uid, name, attempt = self.key
        task, one = self.task, self.execution
        status = task.status
        said: dict[str, Any] = {
            "taskUid": uid,
            "namespace": plain(task.metadata.namespace),
            "task": plain(task.metadata.name),
            "caller": plain(self.caller),
            "execution": name,
            "attempt": attempt,
            "taskReason": task.reason,
            "input": kept(_input_of(task, one), keep),
        }
        if one is None:
            tool, reason, message = task.spec.tool or "", task.reason, status.message if status else None
        else:
            tool, reason, message = one.tool, one.reason, one.message
            said |= _what_came_of(one, keep)
        said |= {"tool": plain(tool), "reason": reason, "status": _outcome(reason)}
        if message and keep == "keep" and reason != "Completed":
            said["error"] = plain(message, 1024)
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class OfTheAudit:
    """Something about the audit itself."""

    kind: Kind
    said: Mapping[str, Any]
    at: datetime = field(default_factory=now)

    def body(self, _keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        return dict(self.said)


@dataclass(slots=True)
class Interruption:
    """For a time nothing could be written. What it says grows until it is written itself."""

    why: str
    #: Requests that were refused for it.
    refused: int = 0
    #: Records that were given up: so many waited that no more could be kept.
    lost: int = 0
    at: datetime = field(default_factory=now)
    kind: ClassVar[Kind] = Kind.AUDIT_INTERRUPTED

    def body(self, _keep: Keep) -> dict[str, Any]:
        """See ``Happening``."""
        return {"why": self.why, "refused": self.refused, "lost": self.lost, "until": time_text(now())}


def _inputs(task: AgentTask) -> Any:
    spec = task.spec
    if spec.tool is not None:
        return spec.arguments
    return {step.name: step.arguments for step in spec.steps}


def _input_of(task: AgentTask, execution: ExecutionStatus | None) -> Any:
    """Return an execution's arguments as they were declared: a step's may refer to what came of an earlier one."""
    if execution is None or task.spec.tool is not None:
        return _inputs(task)
    return next((step.arguments for step in task.spec.steps if step.name == execution.name), {})


def _what_came_of(one: ExecutionStatus, keep: Keep) -> dict[str, Any]:
    said: dict[str, Any] = {"exitCode": one.exit_code, "signal": one.signal}
    output = one.result if one.result is not None else (one.output.stdout if one.output else None)
    if output is not None:
        said["output"] = kept(output, keep)
    if one.usage is not None:
        said["usage"] = one.usage.to_wire()
        if one.usage.wall_seconds is not None:
            said["durationMicroseconds"] = round(one.usage.wall_seconds * 1e6)
    if one.error is not None:
        said["errorType"] = plain(one.error.type, 64)
    if one.limit is not None:
        said["limit"] = plain(one.limit.name, 64)
    if one.sandbox is not None:
        said["sandbox"] = one.sandbox.to_wire()
    return said


def _outcome(reason: str | None) -> str:
    return "success" if reason == "Completed" else "error"
