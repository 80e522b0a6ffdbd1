"""What of an ended task stands in its status, and what goes to the artifact store. Pure.

As the operator keeps it, so that a task looks the same wherever it ran: the beginning of what was printed, small files,
results, and all of it within a size that a status has.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from corral.api import (
    AgentTask,
    ExecutionError,
    ExecutionOutput,
    ExecutionStatus,
    Phase,
    Reason,
    StoredContent,
)
from corral.artifacts.names import file_name, stored_name

#: Bytes of each stream that stand in a status; the same as the operator's.
STATUS_OUTPUT_BYTES = 65536
#: Of all executions together; the same as the operator's.
STATUS_BYTES = 768 * 1024

#: Files that came back: content by execution and path.
Files = Mapping[tuple[str, str], bytes]


@dataclass(slots=True)
class Offloaded:
    """A task whose status is small enough, and what goes to the store by its name there."""

    task: AgentTask
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that go to the store."""
        return sum(map(len, self.contents.values()))


def offload(task: AgentTask, files: Files) -> Offloaded:
    """Say what goes where, with a store."""
    found = Offloaded(task)
    executions = [_one(execution, files, found.contents) for execution in task.executions]
    executions = shrunk(executions, found.contents, lambda now: _size(now) <= STATUS_BYTES)
    found.task = _with(task, executions)
    return found


def shrunk(
    executions: Iterable[ExecutionStatus],
    contents: dict[str, bytes],
    fits: Callable[[Sequence[ExecutionStatus]], bool],
    *,
    needed: Collection[str] = (),
) -> list[ExecutionStatus]:
    """Take out of executions what is too large for them together: files first, then results of the earliest steps.

    Args:
        executions: of one task.
        contents: what is taken out is added there, by its name in the store.
        fits: whether they are small enough.
        needed: names of those whose results stay, come what may.
    """
    left = list(executions)
    for shrink in (_without_files, _without_result):
        for place, execution in enumerate(left):
            if fits(left):
                break
            if shrink is _without_files or execution.name not in needed:
                left[place] = shrink(execution, contents)
    return left


def stored_bytes(executions: Iterable[ExecutionStatus]) -> int:
    """Return how many bytes of what executions left are in the store, as their status tells."""
    return sum(
        sum(file.size for file in one.files if file.stored) + sum(content.size for content in one.stored)
        for one in executions
    )


def without_store(task: AgentTask, files: Files, *, why: str) -> AgentTask:
    """Say what becomes of a task where nothing can be stored: output is cut and said to be, the rest is no result.

    Args:
        task: ended.
        files: that came back.
        why: there is no store, or it takes no more.
    """
    wanted = offload(task, files)
    executions = []
    for before, after in zip(task.executions, wanted.task.executions, strict=True):
        lost = [file.path for file in after.files if file.stored]
        lost += [f"its {one.name}" for one in after.stored if one.name == "result"]
        bare = after.model_copy(
            update={
                "files": tuple(file.model_copy(update={"stored": None}) for file in after.files),
                "stored": (),
            }
        )
        if lost and before.succeeded:
            message = f"{why}, and this is too large for the task's status: {', '.join(lost)[:1000]}"
            bare = _ended(bare, Reason.OUTPUT_LIMIT, message)
        executions.append(bare)
    return _ending_as(_with(task, executions), executions)


def _one(execution: ExecutionStatus, files: Files, contents: dict[str, bytes]) -> ExecutionStatus:
    """Take out of an execution what is too large by itself."""
    execution = _with_output_cut(execution, contents)
    kept = []
    for file in execution.files:
        data = files.get((execution.name, file.path))
        if file.data is None and data is not None:
            contents[file_name(execution.name, file.path)] = data
            file = file.model_copy(update={"stored": True})  # noqa: PLW2901 - the same file, said more of
        kept.append(file)
    return execution.model_copy(update={"files": tuple(kept)})


def _with_output_cut(execution: ExecutionStatus, contents: dict[str, bytes]) -> ExecutionStatus:
    output = execution.output
    if output is None:
        return execution
    stored = list(execution.stored)
    parts: dict[str, str] = {}
    for name, text in (("stdout", output.stdout), ("stderr", output.stderr)):
        data = text.encode("utf-8", "replace")
        if len(data) <= STATUS_OUTPUT_BYTES:
            continue
        contents[stored_name(execution.name, name)] = data
        stored.append(_stored(name, data))
        parts[name] = data[:STATUS_OUTPUT_BYTES].decode("utf-8", "ignore")
    if not parts:
        return execution
    shorter = ExecutionOutput.model_construct(
        stdout=parts.get("stdout", output.stdout), stderr=parts.get("stderr", output.stderr), truncated=True
    )
    return execution.model_copy(update={"output": shorter, "stored": tuple(stored)})


def _without_files(execution: ExecutionStatus, contents: dict[str, bytes]) -> ExecutionStatus:
    files = []
    for file in execution.files:
        data = file.data
        if data is not None:
            contents[file_name(execution.name, file.path)] = data
            bare = {"content": None, "content_base64": None, "stored": True}
            file = file.model_copy(update=bare)  # noqa: PLW2901 - the same file, without what it holds
        files.append(file)
    return execution.model_copy(update={"files": tuple(files)})


def _without_result(execution: ExecutionStatus, contents: dict[str, bytes]) -> ExecutionStatus:
    if execution.result is None:
        return execution
    data = json.dumps(execution.result, ensure_ascii=False).encode("utf-8", "replace")
    contents[stored_name(execution.name, "result")] = data
    stored = (*execution.stored, _stored("result", data))
    return execution.model_copy(update={"result": None, "stored": stored})


def _stored(name: str, data: bytes) -> StoredContent:
    return StoredContent(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _ended(execution: ExecutionStatus, reason: Reason, message: str) -> ExecutionStatus:
    problem = ExecutionError(type=reason.value, message=message, field="spec.outputs")
    changes = {"reason": reason, "phase": Phase.FAILED, "message": message, "error": problem}
    return execution.model_copy(update=changes)


def _ending_as(task: AgentTask, executions: Iterable[ExecutionStatus]) -> AgentTask:
    """Return a task that ends as its first execution that did not keep what it brought."""
    bad = next((one for one in executions if one.reason is Reason.OUTPUT_LIMIT), None)
    status = task.status
    if bad is None or status is None or status.reason is not Reason.COMPLETED:
        return task
    conditions = tuple(
        one.model_copy(update={"reason": bad.reason, "message": bad.message or ""})
        if one.type == "Finished"
        else one
        for one in status.conditions
    )
    changes = {"reason": bad.reason, "phase": Phase.FAILED, "message": bad.message, "conditions": conditions}
    return task.model_copy(update={"status": status.model_copy(update=changes)})


def _with(task: AgentTask, executions: Iterable[ExecutionStatus]) -> AgentTask:
    assert task.status is not None
    return task.model_copy(
        update={"status": task.status.model_copy(update={"executions": tuple(executions)})}
    )


def _size(executions: Iterable[ExecutionStatus]) -> int:
    wire = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in executions]
    return len(json.dumps(wire, ensure_ascii=False).encode("utf-8", "replace"))
