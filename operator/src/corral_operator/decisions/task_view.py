"""A task as the decisions see it. Parsing is lenient: a broken task becomes one that says what is wrong."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from corral.api import AgentTaskSpec, AgentTaskStatus, Timings
from corral.api.problems import problems_in
from corral.catalogue.tool_versions import versions_read
from corral.cluster.names import CALLER_LABEL
from corral.cluster.port import ObjectKey
from corral.sandbox.port import Owner
from corral_operator.views import Json, parse_time


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task, as far as the operator looks at it."""

    key: ObjectKey
    resource_version: str
    generation: int
    created: datetime
    deleting: bool
    #: Who asked for it, as the gateway stamped it; empty for tasks applied by hand.
    caller: str
    #: None: the spec is wrong, and ``problem`` says where.
    spec: AgentTaskSpec | None
    problem: str
    problem_field: str | None
    status: AgentTaskStatus
    #: What is wrong with a status that is not as we write it. Nothing is started for such a task: what has run
    #: of it cannot be known.
    status_problem: str
    #: ``spec.cancel``, which counts even where the rest is wrong.
    cancel: bool
    labels: dict[str, str]
    #: Of tools, by name, when it was let in: what is older is not run.
    tool_versions: dict[str, int]

    @property
    def has_artifacts(self) -> bool:
        """Whether something of it is, or may soon be, in the artifact store."""
        files = () if self.spec is None else self.spec.files
        return bool(self.status.executions) or any(file.artifact is not None for file in files)

    def is_over(self, owner: Owner) -> bool:
        """Whether an attempt of this task has ended; not if its status is too old, or too broken, to say so."""
        execution = next(
            (one for one in self.status.executions if owner.uid == f"{self.key.uid}/{one.name}"), None
        )
        if execution is None or self.status_problem:
            return False
        return execution.attempt > owner.attempt or (
            execution.attempt == owner.attempt and execution.reason is not None
        )


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """All that is kept of a task that has ended: there may be thousands."""

    key: ObjectKey
    #: Pods that its executions ran in.
    pods: tuple[ObjectKey, ...]
    #: When its time to live is over, None if it has none.
    delete_at: datetime | None
    #: Something of it is in the artifact store.
    has_artifacts: bool = False


def task_of(body: Json) -> TaskView | FinishedTask:
    """Parse a raw task, in full only while it has not ended."""
    status = body.get("status") or {}
    completed = status.get("completionTime")
    if not isinstance(completed, str):
        return task_view(body)
    metadata = body["metadata"]
    namespace: str = metadata["namespace"]
    sandboxes = [execution.get("sandbox") or {} for execution in status.get("executions") or ()]
    seconds = (body.get("spec") or {}).get("ttlSecondsAfterFinished")
    end = parse_time(completed)
    return FinishedTask(
        key=ObjectKey(namespace, metadata["name"], metadata["uid"]),
        pods=tuple(
            ObjectKey(namespace, sandbox["podName"], sandbox["podUID"])
            for sandbox in sandboxes
            if sandbox.get("podName") and sandbox.get("podUID")
        ),
        delete_at=end + timedelta(seconds=seconds) if end is not None and isinstance(seconds, int) else None,
        has_artifacts=_has_artifacts(body),
    )


def task_view(body: Json) -> TaskView:
    """Parse a raw task.

    Raises:
        KeyError: it has no identity, which no API server sends.
    """
    metadata = body["metadata"]
    spec: AgentTaskSpec | None = None
    problem, field = "", None
    raw: Any = body.get("spec") or {}
    try:
        spec = AgentTaskSpec.model_validate(raw)
    except RecursionError:
        problem, field = "spec: it is nested too deeply", "spec"
    except ValidationError as error:
        problems = problems_in(error, AgentTaskSpec, prefix=("spec",))
        problem = "; ".join(f"{one.path}: {one.message}" for one in problems)
        field = problems[0].path if problems else "spec"
    status, status_problem = _status(body.get("status") or {})
    return TaskView(
        key=ObjectKey(metadata["namespace"], metadata["name"], metadata["uid"]),
        resource_version=metadata.get("resourceVersion", ""),
        generation=metadata.get("generation", 0),
        created=parse_time(metadata.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC),
        deleting="deletionTimestamp" in metadata,
        caller=(metadata.get("labels") or {}).get(CALLER_LABEL, ""),
        spec=spec,
        problem=problem,
        problem_field=field,
        status=status,
        status_problem=status_problem,
        cancel=isinstance(raw, dict) and raw.get("cancel") is True,
        labels=metadata.get("labels") or {},
        tool_versions={}
        if spec is None
        else versions_read(metadata.get("annotations") or {}, spec.called_tools),
    )


def _has_artifacts(body: Json) -> bool:
    files = (body.get("spec") or {}).get("files") or ()
    executions = (body.get("status") or {}).get("executions") or ()
    kept = [file for execution in executions for file in execution.get("files") or ()]
    return (
        any(isinstance(file, dict) and "artifact" in file for file in files)
        or any(execution.get("stored") for execution in executions)
        or any(file.get("stored") for file in kept)
    )


def _status(raw: Json) -> tuple[AgentTaskStatus, str]:
    try:
        status = AgentTaskStatus.model_validate(raw)
        for execution in status.executions:
            for text in (execution.timings or Timings()).model_dump().values():
                parse_time(text)
    except ValidationError as error:
        first = problems_in(error, AgentTaskStatus, prefix=("status",))[0]
        return AgentTaskStatus(), f"{first.path}: {first.message}"
    except ValueError as error:  # a time of the right form that is none
        return AgentTaskStatus(), f"status.executions: {error}"
    return status, ""
