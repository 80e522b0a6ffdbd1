"""One task while it runs on one backend, and how its status says that it stands."""

import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from corral.api import (
    AgentTask,
    AgentTaskStatus,
    Condition,
    ConditionStatus,
    ExecutionStatus,
    Frame,
    Phase,
    Problem,
    Reason,
    SandboxStatus,
    Tool,
    phase_of,
    time_text,
)
from corral.client.secrets import SecretSource
from corral.policy import Policy
from corral.sandbox.execution import ReadFile
from corral.sandbox.port import Sandbox

#: Called with the execution's name and each of its frames, as they come.
OnFrame = Callable[[str, Frame], None]
#: Called with the execution's name, the path and the content of each file that came back.
OnFile = Callable[[str, str, bytes], None]
#: Called with the status of a task that goes on, whenever it has changed.
OnStatus = Callable[[AgentTaskStatus], None]
#: Returns what is wrong with the arguments of a call.
CheckArguments = Callable[[Tool, Mapping[str, Any]], Awaitable[Sequence[Problem]]]


@dataclass
class TaskRun:
    """One task while it runs."""

    task: AgentTask
    uid: str
    #: Of what runs it.
    backend: str
    on_frame: OnFrame | None
    on_file: OnFile | None
    secrets: SecretSource
    policy: Policy
    check: CheckArguments | None = None
    on_status: OnStatus | None = None
    read_file: ReadFile | None = None
    attempt: int = 1
    cancelled: bool = False
    past_deadline: bool = False
    sandboxes: set[Sandbox] = field(default_factory=set)
    executions: list[ExecutionStatus] = field(default_factory=list)
    #: Those that have a sandbox and have not ended.
    open: dict[str, ExecutionStatus] = field(default_factory=dict)
    isolation: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()
    warm: bool | None = None
    began: datetime | None = None

    @property
    def stopped(self) -> Reason | None:
        """Why nothing more of it may start."""
        if self.past_deadline:
            return Reason.DEADLINE_EXCEEDED
        return Reason.CANCELLED if self.cancelled else None

    def tell(self) -> None:
        """Say how the task stands, which goes on."""
        if self.on_status is None or self.began is None:
            return
        began = time_text(self.began)
        newest = next(reversed(self.open.values()), None)
        status = AgentTaskStatus.model_construct(
            observed_generation=self.task.metadata.generation,
            conditions=_begun(began),
            phase=Phase.RUNNING,
            attempt=max([self.attempt, *(one.attempt for one in self.open.values())]),
            sandbox=newest.sandbox if newest is not None else None,
            executions=(*self.executions, *self.open.values()),
            start_time=began,
        )
        self.on_status(status)

    def finished(self, reason: Reason | None, message: str | None) -> AgentTask:
        """Return the task with what came of it.

        Args:
            reason: why it ended; None: nobody knows.
            message: for people.
        """
        reason = reason or Reason.SANDBOX_FAILED
        now = time_text(datetime.now(UTC))
        if self.began is not None:
            conditions = _begun(time_text(self.began))
        elif reason is Reason.CANCELLED:
            conditions = (_condition("Accepted", True, "Accepted", "", now),)
        else:
            conditions = (_condition("Accepted", False, reason, message, now),)
        status = AgentTaskStatus.model_construct(
            observed_generation=self.task.metadata.generation,
            conditions=(*conditions, _condition("Finished", True, reason, message, now)),
            phase=phase_of(reason),
            reason=reason,
            message=message or None,
            attempt=self.attempt,
            sandbox=SandboxStatus.model_construct(
                backend=self.backend,
                pod_name=None,
                pod_uid=None,
                node=platform.node(),
                warm=self.warm,
                isolation=self.isolation,
                weakened=self.weakened,
            ),
            executions=tuple(self.executions),
            start_time=None if self.began is None else time_text(self.began),
            completion_time=now,
        )
        return self.task.model_copy(update={"status": status})


def _begun(began: str) -> tuple[Condition, ...]:
    """Return what is true of a task from the moment on at which it got its first sandbox."""
    return (
        _condition("Accepted", True, "Accepted", "", began),
        _condition("Started", True, "SandboxAssigned", "", began),
    )


def _condition(kind: str, is_true: bool, reason: str, message: str | None, now: str) -> Condition:  # noqa: FBT001
    return Condition.model_construct(
        type=kind,
        status=ConditionStatus.TRUE if is_true else ConditionStatus.FALSE,
        reason=str(reason),
        message=message or "",
        last_transition_time=now,
        observed_generation=None,
    )
