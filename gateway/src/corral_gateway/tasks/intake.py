"""From the body of a request to a task with a name, an id and its caller's stamp. Pure but for chance and time."""

import hashlib
import json
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from corral.api import (
    AgentTask,
    AgentTaskSpec,
    ManifestError,
    ObjectMeta,
    Problem,
    parse_resource,
    time_text,
)
from corral.api.problems import problems_in
from corral_gateway.tasks.stamps import OWN_ANNOTATIONS, OWN_LABELS, caller_stamps, without
from corral_gateway.tracing import TRACE_ANNOTATION


def task_of(body: Any, caller: str) -> AgentTask:
    """Return the task that a body describes: the spec of one, or a whole manifest.

    Raises:
        ManifestError: with every problem.
    """
    whole = isinstance(body, dict) and ("spec" in body or "kind" in body)
    manifest = body if whole else {**_HEAD, "metadata": {"name": "task"}, "spec": body}
    resource = parse_resource(manifest)
    if not isinstance(resource, AgentTask):
        raise ManifestError([Problem("kind", f"expected AgentTask, found {resource.kind}")])
    return _stamped(resource, caller, named=whole)


def _stamped(task: AgentTask, caller: str, *, named: bool) -> AgentTask:
    """Return a task as it is kept: with what only the gateway sets, and without a status of somebody's own."""
    given = task.metadata
    labels, annotations = caller_stamps(caller)
    metadata = ObjectMeta(
        name=given.name if named and given.name else _name(task),
        namespace=given.namespace,
        labels={**without(OWN_LABELS, given.labels), **labels},
        annotations={**without(OWN_ANNOTATIONS, given.annotations), **annotations},
        uid=str(uuid.uuid4()),
        creation_timestamp=time_text(datetime.now(UTC)),
    )
    return task.model_copy(update={"metadata": metadata, "status": None})


def with_key(task: AgentTask, key: str) -> AgentTask:
    """Return a task with the idempotency key that came in a header.

    Raises:
        ManifestError: the key is none, or the spec has another.
    """
    given = task.spec.idempotency_key
    if given not in {None, key}:
        message = f"it differs from the header Idempotency-Key, {key[:64]!r}"
        raise ManifestError([Problem("spec.idempotencyKey", message, remedy="send one of the two")])
    try:
        spec = AgentTaskSpec.model_validate(task.spec.to_wire() | {"idempotencyKey": key})
    except ValidationError as error:
        raise ManifestError(problems_in(error, AgentTaskSpec, prefix=("spec",))) from None
    return task.model_copy(update={"spec": spec})


def request_sha256(task: AgentTask) -> bytes:
    """Return what tells the same request from another: everything but what differs from one sending to the next."""
    labels = without(OWN_LABELS, task.metadata.labels)
    annotations = without(OWN_ANNOTATIONS | {TRACE_ANNOTATION}, task.metadata.annotations)
    asked = {"spec": task.spec.to_wire(), "labels": labels, "annotations": annotations}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()


_HEAD = {"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask"}


def _name(task: AgentTask) -> str:
    what = (task.spec.tool or "chain").replace("_", "-").lower()
    return f"{task.metadata.generate_name or what + '-'}{secrets.token_hex(4)}"
