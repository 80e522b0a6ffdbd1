"""From what a caller says to what is sent: small files inside the task, large ones beside it. Pure."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from corral.api import AgentTask, Limits
from corral.client.gateway.requests import Submission
from corral.client.tasks import Files, build_task

#: A spec has at most 64 KiB, base64 makes a third more of bytes, and there is more in it than files.
_INLINE_BYTES = 32 << 10


def submission(
    tool: str,
    arguments: Mapping[str, Any],
    *,
    limits: Limits | Mapping[str, Any] | None,
    files: Files,
    env: Mapping[str, str] | None,
    workspace: str | os.PathLike[str] | None,
    outputs: Sequence[str],
) -> Submission:
    """Return what is sent for a tool; see ``build_task`` for the arguments.

    The task is sent without a name, so that the gateway gives it one that no other has.

    Raises:
        pydantic.ValidationError: a value is not what the contract allows.
    """
    uploads: dict[str, bytes] = {}
    if isinstance(files, Mapping):
        files, uploads = _divided(files)
    task = build_task(
        tool, arguments, limits=limits, files=files, env=env, workspace=workspace, outputs=outputs
    )
    return Submission(task.spec.to_wire(), uploads)


def submission_of(task: AgentTask, uploads: Mapping[str, bytes] | None = None) -> Submission:
    """Return what is sent for a task: the whole manifest, without a status of its own."""
    body = task.model_copy(update={"status": None}).to_wire()
    return Submission(body, uploads or {}, task.spec.idempotency_key)


def _divided(files: Mapping[str, str | bytes]) -> tuple[dict[str, str | bytes], dict[str, bytes]]:
    """Divide files into those that fit into a spec, smallest first, and those that go beside it."""
    data = {
        path: content.encode() if isinstance(content, str) else content for path, content in files.items()
    }
    inside: dict[str, str | bytes] = {}
    beside: dict[str, bytes] = {}
    room = _INLINE_BYTES
    for path in sorted(data, key=lambda path: len(data[path])):
        room -= len(data[path])
        if room >= 0:
            inside[path] = files[path]
        else:
            beside[path] = data[path]
    return inside, beside
