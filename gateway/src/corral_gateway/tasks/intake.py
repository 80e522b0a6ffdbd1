"""From the body of a request to a task with a name, an id and its caller's stamp. Pure but for chance and time."""

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from corral.api import AgentTask, ManifestError, ObjectMeta, Problem, parse_resource, time_text

#: Whose a task is. Nobody but the gateway says so.
CALLER_LABEL = "corral.dev/caller"


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
    return stamped(resource, caller, named=whole)


def stamped(task: AgentTask, caller: str, *, named: bool) -> AgentTask:
    """Return a task as it is kept: with what only the gateway sets, and without a status of somebody's own."""
    given = task.metadata
    metadata = ObjectMeta(
        name=given.name if named and given.name else _name(task),
        namespace=given.namespace,
        labels={**given.labels, CALLER_LABEL: caller},
        annotations=given.annotations,
        uid=str(uuid.uuid4()),
        creation_timestamp=time_text(datetime.now(UTC)),
    )
    return task.model_copy(update={"metadata": metadata, "status": None})


_HEAD = {"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask"}


def _name(task: AgentTask) -> str:
    what = (task.spec.tool or "chain").replace("_", "-").lower()
    return f"{task.metadata.generate_name or what + '-'}{secrets.token_hex(4)}"
