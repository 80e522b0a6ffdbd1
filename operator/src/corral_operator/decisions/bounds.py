"""What of an execution fits into a status: etcd takes 1.5 MiB for an object, and every watcher reads it.

Most of an execution is what a runner said, and somebody may have taken the runner over: each field that it fills is
brought to what the API server takes, or the execution ends and says which one could not be.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from corral.api import (
    Denial,
    ExecutionError,
    ExecutionOutput,
    ExecutionStatus,
    LimitBreach,
    Reason,
    SandboxStatus,
    format_path,
    json_problem,
)
from corral.api.json_values import encodes
from corral_operator.decisions.status import ended
from corral_operator.settings import Settings

#: As much of a sentence as the runner itself sends.
_MESSAGE_BYTES = 10_000
#: Of a name: an error's type, a rule, a system call. The runner itself sends at most as much.
_NAME_BYTES = 1000
#: The runner tells as many kinds of refused calls apart.
_MOST_DENIALS = 64
#: There are a dozen layers of isolation, with names such as networkpolicy. They stand in every status, twice.
_MOST_LAYERS, _LAYER_BYTES = 32, 64
#: Longer ones ``OutputFile`` does not take, so the API server does not either.
_PATH_CHARACTERS = 4096
#: What the API server reads as an integer; beyond, it refuses or rounds.
_INT64 = range(-(2**63), 2**63)


def fit(
    execution: ExecutionStatus, others: Iterable[ExecutionStatus], settings: Settings, now: datetime
) -> ExecutionStatus:
    """Cut an ended execution to what the task's status has room for.

    Output is cut, and said to be. A result or a file that is too large is no small matter: somebody counts on
    it, so the execution ends with ``OutputLimit`` and a message that names what did not fit. A result that is no
    JSON value that the API server carries ends it with ``ToolError``, as the runner would have; a number or a path
    that no runner of ours sends, with ``SandboxFailed``.
    """
    trimmed = trim(execution, settings, now)
    return trimmed if fits((*others, trimmed), settings) else refused(trimmed, settings, now)


def refused(trimmed: ExecutionStatus, settings: Settings, now: datetime) -> ExecutionStatus:
    """Return a trimmed execution that a status has no room for beside the others: without what it brought."""
    bare = trimmed.model_copy(update={"result": None, "files": (), "output": None, "denials": ()})
    message = (
        f"result, files and output do not fit into the task's status, which holds {settings.status_bytes} "
        "bytes over all its steps"
    )
    return ended(bare, Reason.OUTPUT_LIMIT, message, now)


def fits(executions: Iterable[ExecutionStatus], settings: Settings) -> bool:
    """Whether a status has room for all of them."""
    return sum(map(_size, executions)) <= settings.status_bytes


def trim(execution: ExecutionStatus, settings: Settings, now: datetime) -> ExecutionStatus:
    """Bring each part of an ended execution to what a status has room for; see ``fit``."""
    broken = next(_broken(execution), None)
    if broken is not None:
        message = f"the runner sent what no status can hold: {broken}. Nothing that it told can be trusted"
        execution = ended(_without_what_was_told(execution), Reason.SANDBOX_FAILED, message, now)
    execution = _with_output_cut(_with_texts_cut(execution), settings.status_output_bytes)
    execution = _with_result_refused(execution, now)
    too_large = [
        file
        for file in execution.files
        if not file.stored and file.content is None and file.content_base64 is None
    ]
    if execution.succeeded and too_large:
        names = _cut(", ".join(f"{file.path} ({file.size} bytes)" for file in too_large), _NAME_BYTES)
        message = (
            f"these files are too large to be brought back: {names}. Bring back less"
            if settings.artifacts_url
            else f"there is no object store, and these files are too large for the task's status: {names}. "
            "Bring back less, or configure a store"
        )
        execution = ended(execution, Reason.OUTPUT_LIMIT, message, now, field="spec.outputs")
    return execution


def short(message: str | None) -> str:
    """Return a sentence that a runner may have written as long as a status takes one, and as UTF-8 has it."""
    return _cut(message or "", _MESSAGE_BYTES)


def _without_what_was_told(execution: ExecutionStatus) -> ExecutionStatus:
    """Return an execution without what its runner told of its end; output is only output."""
    told = {"result": None, "files": (), "denials": (), "limit": None, "usage": None}
    return execution.model_copy(update={**told, "exit_code": None, "signal": None})


def _broken(execution: ExecutionStatus) -> Iterator[str]:
    """Name the fields that the API server would refuse, and that cannot be cut to what it takes."""
    numbers: list[tuple[str, Any]] = [("exitCode", execution.exit_code), ("signal", execution.signal)]
    if execution.usage is not None:
        used = execution.usage.model_dump(by_alias=True)
        numbers += [(f"usage.{name}", number) for name, number in used.items()]
    numbers += [(f"denials[{place}].count", denial.count) for place, denial in enumerate(execution.denials)]
    numbers += [(f"files[{place}].size", file.size) for place, file in enumerate(execution.files)]
    for name, number in numbers:
        if isinstance(number, int) and number not in _INT64:
            yield f"{name} is a whole number of more than 64 bits"
    for place, file in enumerate(execution.files):
        if len(file.path) > _PATH_CHARACTERS or not encodes(file.path):
            yield f"files[{place}].path is not text of at most {_PATH_CHARACTERS} characters"


def _with_texts_cut(execution: ExecutionStatus) -> ExecutionStatus:
    """Cut what is small where all is well: sentences, names, and how many of them there are."""
    error, limit, sandbox = execution.error, execution.limit, execution.sandbox
    return execution.model_copy(
        update={
            "message": None if execution.message is None else short(execution.message),
            "error": None if error is None else _error(error),
            "limit": None if limit is None else _limit(limit),
            "denials": tuple(_denial(denial) for denial in execution.denials[:_MOST_DENIALS]),
            "sandbox": None if sandbox is None else _sandbox(sandbox),
        }
    )


def _error(error: ExecutionError) -> ExecutionError:
    return error.model_copy(
        update={
            "type": _cut(error.type, _NAME_BYTES),
            "message": short(error.message),
            "field": None if error.field is None else _cut(error.field, _NAME_BYTES),
            "rule": None if error.rule is None else _cut(error.rule, _NAME_BYTES),
            "details": error.details if json_problem(error.details) is None else None,
        }
    )


def _limit(limit: LimitBreach) -> LimitBreach:
    return limit.model_copy(
        update={
            "name": _cut(limit.name, _NAME_BYTES),
            "unit": _cut(limit.unit, _NAME_BYTES),
            "enforced_by": None if limit.enforced_by is None else _cut(limit.enforced_by, _NAME_BYTES),
        }
    )


def _denial(denial: Denial) -> Denial:
    names = {"syscall": _cut(denial.syscall, _NAME_BYTES), "detail": _cut(denial.detail, _NAME_BYTES)}
    return denial.model_copy(update=names)


def _sandbox(sandbox: SandboxStatus) -> SandboxStatus:
    return sandbox.model_copy(
        update={
            "isolation": tuple(_cut(name, _LAYER_BYTES) for name in sandbox.isolation[:_MOST_LAYERS]),
            "weakened": tuple(_cut(name, _LAYER_BYTES) for name in sandbox.weakened[:_MOST_LAYERS]),
        }
    )


def _with_result_refused(execution: ExecutionStatus, now: datetime) -> ExecutionStatus:
    """End an execution whose result the API server would round or refuse."""
    finding = json_problem(execution.result)
    if finding is None:
        return execution
    without = execution.model_copy(update={"result": None})
    if not execution.succeeded:
        return without
    place = _cut(format_path(("result", *finding.location[:4])), _NAME_BYTES)
    remedy = "" if finding.remedy is None else f"; {finding.remedy}"
    message = f"the tool returned what cannot be passed on: {place}: {finding.message}{remedy}"
    refused = ended(without, Reason.TOOL_ERROR, message, now, field=place)
    error = ExecutionError(type="ResultRefused", message=message, field=place)
    return refused.model_copy(update={"error": error})


def _with_output_cut(execution: ExecutionStatus, most: int) -> ExecutionStatus:
    output = execution.output
    if output is None:
        return execution
    stdout, stderr = _cut(output.stdout, most), _cut(output.stderr, most)
    if stdout == output.stdout and stderr == output.stderr:
        return execution
    cut = len(stdout) + len(stderr) < len(output.stdout) + len(output.stderr)
    shorter = ExecutionOutput.model_construct(stdout=stdout, stderr=stderr, truncated=output.truncated or cut)
    return execution.model_copy(update={"output": shorter})


def _cut(text: str, most: int) -> str:
    """Return the beginning of a text, in so many bytes, without what has no UTF-8 form."""
    if text.isascii():
        return text[:most]
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _size(execution: ExecutionStatus) -> int:
    """Return how many bytes of etcd an execution takes.

    The API server writes JSON with Go's encoding/json, which escapes ``<``, ``>``, ``&``, U+2028 and U+2029 as six
    characters each (``Marshal``: "to keep some browsers from misinterpreting JSON output as HTML").
    """
    wire = execution.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = json.dumps(wire, ensure_ascii=False, separators=(",", ":"))
    escaped = 5 * sum(map(text.count, "<>&")) + 3 * sum(map(text.count, "\u2028\u2029"))
    return len(text.encode()) + escaped
