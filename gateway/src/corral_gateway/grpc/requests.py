"""From an ExecuteTaskRequest to a task. Pure but for chance and time."""

from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from corral.api import AgentTask, ManifestError, ObjectMeta, Problem
from corral.api.problems import problems_in
from corral.catalogue.catalogue import normalise
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.json_values import json_value
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.intake import task_of, with_key
from corral_gateway.tasks.stamps import OWN_ANNOTATIONS, OWN_LABELS, without

#: Where in a request stands what is to run.
_PLACE = "context.task"


def task_of_request(request: pb.ExecuteTaskRequest, caller: str, key: str | None) -> AgentTask:
    """Return the task that a request names.

    Args:
        request: as it came.
        caller: whose the task becomes.
        key: the idempotency key of the call's metadata.

    Raises:
        ManifestError: something in it is wrong; paths are those of the request.
        ProblemError: it needs a language model.
    """
    if "task" not in request.context.fields:
        raise _nothing_named(request.query)
    body = json_value(request.context.fields["task"])
    problems = [*_problems(request)]
    whole = isinstance(body, dict) and ("spec" in body or "kind" in body)
    spec = body.get("spec") if whole else body
    if isinstance(spec, dict):
        problems += _bounded(spec, request.config)
    if problems:
        raise ManifestError(problems)
    try:
        task = task_of(body, caller)
        if key is not None:
            task = with_key(task, key)
    except ManifestError as error:
        raise ManifestError([_placed(problem, whole=whole) for problem in error.problems]) from None
    if task.spec.agent is not None:
        raise _model_needed("an agent's prompt")
    not_listed = _not_listed(task, request.available_tools)
    if not_listed is not None:
        raise ManifestError([not_listed])
    return _labelled(task, request.metadata)


def _problems(request: pb.ExecuteTaskRequest) -> Iterator[Problem]:
    config = request.config
    if config.HasField("enable_sandbox") and not config.enable_sandbox:
        remedy = "leave it out, or send true"
        yield Problem("config.enable_sandbox", "nothing runs without a sandbox", remedy=remedy)
    for name in ("max_iterations", "timeout_seconds", "memory_limit_mb"):
        number = getattr(config, name)
        if number < 0:
            yield Problem(f"config.{name}", f"expected at least 0, found {number}")
    if request.mode not in pb.ExecutionMode.values():
        known = ", ".join(pb.ExecutionMode.keys())
        yield Problem("mode", f"expected one of {known}, found {request.mode}")


def _bounded(spec: dict[str, Any], config: pb.AgentConfig) -> Iterator[Problem]:
    """Put the bounds of a config into a spec; find those that it has already."""
    if config.timeout_seconds > 0:
        if "activeDeadlineSeconds" in spec:
            yield _twice("config.timeout_seconds", "activeDeadlineSeconds")
        spec["activeDeadlineSeconds"] = config.timeout_seconds
    if config.memory_limit_mb > 0:
        limits = spec.setdefault("limits", {})
        if not isinstance(limits, dict):
            return  # which is a problem that the spec has anyway
        if "memory" in limits:
            yield _twice("config.memory_limit_mb", "limits.memory")
        limits["memory"] = f"{config.memory_limit_mb}Mi"


def _not_listed(task: AgentTask, available: Any) -> Problem | None:
    """Return that a tool is called which the request does not list; None: none is, or it lists none."""
    listed = {normalise(name) for name in available}
    missing = [name for name in task.spec.called_tools if normalise(name) not in listed]
    if not listed or not missing:
        return None
    remedy = "list it, or leave available_tools empty for all"
    return Problem("available_tools", f"the task calls {missing[0]}, which is not among them", remedy=remedy)


def _labelled(task: AgentTask, given: pb.TaskMetadata) -> AgentTask:
    if not given.labels and not given.annotations:
        return task
    body = {"name": "task", "labels": dict(given.labels), "annotations": dict(given.annotations)}
    try:
        read = ObjectMeta.model_validate(body)
    except ValidationError as error:
        raise ManifestError(problems_in(error, ObjectMeta, prefix=("metadata",))) from None
    # What the manifest says goes first; what only the gateway writes, nobody says.
    own = task.metadata
    metadata = own.model_copy(
        update={
            "labels": {**without(OWN_LABELS, read.labels), **own.labels},
            "annotations": {**without(OWN_ANNOTATIONS, read.annotations), **own.annotations},
        }
    )
    return task.model_copy(update={"metadata": metadata})


def _placed(problem: Problem, *, whole: bool) -> Problem:
    path = problem.path if whole else problem.path.removeprefix("spec").removeprefix(".")
    between = "" if not path or path.startswith("[") else "."
    return replace(problem, path=f"{_PLACE}{between}{path}")


def _twice(field: str, other: str) -> Problem:
    return Problem(field, f"the task has {other} already", remedy="say it in one of the two places")


def _nothing_named(query: str) -> Exception:
    if query:
        return _model_needed("a query")
    return ManifestError([Problem(_PLACE, "is missing", remedy=_EXAMPLE)])


def _model_needed(what: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_IMPLEMENTED,
        "LanguageModelNeeded",
        f"{what} needs a language model, which this gateway has not; name what to run in {_PLACE}",
        remedy=_EXAMPLE,
    )


_EXAMPLE = f'{_PLACE} = {{"tool": "calculator", "arguments": {{"expression": "42 + 58"}}}}'
