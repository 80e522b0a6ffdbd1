"""What of an execution fits into a status: etcd takes 1.5 MiB for an object, and every watcher reads it."""

import json
from collections.abc import Iterable
from datetime import datetime

from corral.api import ExecutionOutput, ExecutionStatus, Reason
from corral_operator.decisions.status import ended
from corral_operator.settings import Settings


def fit(
    execution: ExecutionStatus, others: Iterable[ExecutionStatus], settings: Settings, now: datetime
) -> ExecutionStatus:
    """Cut an ended execution to what the task's status has room for.

    Output is cut, and said to be. A result or a file that is too large is no small matter: somebody counts on
    it, so the execution ends with ``OutputLimit`` and a message that names what did not fit.
    """
    execution = _with_output_cut(execution, settings.status_output_bytes)
    too_large = [file for file in execution.files if file.content is None and file.content_base64 is None]
    if execution.succeeded and too_large:
        names = ", ".join(f"{file.path} ({file.size} bytes)" for file in too_large)
        message = (
            f"there is no object store, and these files are too large for the task's status: {names}. "
            "Bring back less, or configure a store"
        )
        execution = ended(execution, Reason.OUTPUT_LIMIT, message, now, field="spec.outputs")
    room = settings.status_bytes - sum(_size(other) for other in others)
    if _size(execution) <= room:
        return execution
    bare = execution.model_copy(update={"result": None, "files": (), "output": None})
    message = (
        f"result, files and output do not fit into the task's status, which holds {settings.status_bytes} "
        "bytes over all its steps"
    )
    return ended(bare, Reason.OUTPUT_LIMIT, message, now)


def _with_output_cut(execution: ExecutionStatus, most: int) -> ExecutionStatus:
    output = execution.output
    if output is None:
        return execution
    stdout, stderr = _cut(output.stdout, most), _cut(output.stderr, most)
    if stdout == output.stdout and stderr == output.stderr:
        return execution
    shorter = ExecutionOutput.model_construct(stdout=stdout, stderr=stderr, truncated=True)
    return execution.model_copy(update={"output": shorter})


def _cut(text: str, most: int) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[:most].decode("utf-8", "ignore")


def _size(execution: ExecutionStatus) -> int:
    wire = execution.model_dump(mode="json", by_alias=True, exclude_none=True)
    return len(json.dumps(wire, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
