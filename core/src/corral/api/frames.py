"""The frames of docs/runner-protocol.md, typed.

A burst of output is thousands of frames: parsing one is a look-up and a few checks of types, in plain frozen
dataclasses. What cannot be read raises; a runner that sends it is broken or is no runner.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from corral.api.errors import CorralError, format_path
from corral.api.json_values import encodes, json_problem
from corral.api.problems import problems_in
from corral.api.reasons import Reason
from corral.api.status import Denial, ExecutionError, LimitBreach, Usage

#: The runner sends a thousand files back, and says of the next one how many there are more.
_MOST_FILES = 1001
#: The runner counts so many kinds.
_MOST_DENIALS = 64


class FrameError(CorralError, ValueError):
    """A frame that is not what the runner's protocol says. Nothing that it carried can be trusted."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The runner listens. ``isolation`` and ``weakened`` name the layers that hold and those that do not."""

    seq: int
    t: float
    runner: str
    protocol: int
    isolation: tuple[str, ...]
    weakened: tuple[str, ...]
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The tool was started."""

    seq: int
    t: float
    pid: int
    attempt: int
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What the tool printed, piece by piece. ``data`` is text, or bytes where they are not UTF-8."""

    seq: int
    t: float
    stream: str  #: stdout or stderr
    data: str | bytes
    execution: str | None = None

    @property
    def raw(self) -> bytes:
        """The bytes as the tool printed them."""
        return self.data if isinstance(self.data, bytes) else self.data.encode("utf-8", "surrogatepass")

    @property
    def text(self) -> str:
        """The text; what is not UTF-8 is replaced."""
        return self.data if isinstance(self.data, str) else self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the tool is. ``fraction`` is 0 to 1, or None where the end cannot be foreseen."""

    seq: int
    t: float
    fraction: float | None
    message: str
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class FileChunk:
    """A piece of a file that comes back. ``last`` says that the file is whole."""

    seq: int
    t: float
    path: str
    size: int | None
    mode: str | int | None
    data: bytes
    last: bool
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class ReturnedFile:
    """A file that the runner sent back, or skipped and why."""

    path: str
    size: int
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How an execution ended."""

    reason: Reason
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    result: Any = None
    error: ExecutionError | None = None
    limit: LimitBreach | None = None
    truncated: bool = False
    denials: tuple[Denial, ...] = ()
    files: tuple[ReturnedFile, ...] = ()
    usage: Usage | None = None

    @property
    def succeeded(self) -> bool:
        """The execution ended well."""
        return self.reason is Reason.COMPLETED


@dataclass(frozen=True, slots=True)
class Result:
    """The last frame of an execution."""

    seq: int
    t: float
    result: ExecutionResult
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class RunnerError:
    """A request that the runner refused."""

    seq: int
    t: float
    code: str
    message: str
    execution: str | None = None


Frame: TypeAlias = Ready | Started | Output | Progress | FileChunk | Result | RunnerError

_T = TypeVar("_T")
_ABSENT: Any = object()


def parse_frame(frame: Mapping[str, Any]) -> Frame:
    """Return the typed form of one decoded frame. Fields that are not known are left out.

    Raises:
        FrameError: it is no frame.
    """
    kind = frame.get("type")
    parse = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        raise FrameError(f"type: expected one of {', '.join(_PARSERS)}")
    seq, t, execution = frame.get("seq"), frame.get("t"), frame.get("execution")
    if type(seq) is not int or seq < 0:
        raise FrameError("seq: expected a whole number from 0")
    if type(t) is not float and type(t) is not int:
        raise FrameError("t: expected seconds")
    if execution is not None and type(execution) is not str:
        raise FrameError("execution: expected a string")
    return parse(frame, seq, t, execution)


def _take(
    frame: Mapping[str, Any], key: str, kind: type[_T] | tuple[type[_T], ...], default: Any = _ABSENT
) -> Any:
    value = frame.get(key, default)
    if value is default and default is not _ABSENT:
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise FrameError(f"{key}: not what the protocol says")
    return value


def _names(frame: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _take(frame, key, list, [])
    if not all(isinstance(value, str) for value in values):
        raise FrameError(f"{key}: expected a list of strings")
    return tuple(values)


def _parts(frame: Mapping[str, Any], key: str, most: int) -> list[Any]:
    parts: list[Any] = _take(frame, key, list, [])
    if len(parts) > most:  # reading all of a line's would take a third of a second
        raise FrameError(f"{key}: expected at most {most}")
    return parts


def _text(frame: Mapping[str, Any], key: str = "message") -> str:
    text: str = _take(frame, key, str, "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _decode(text: Any) -> bytes:
    if not isinstance(text, str):
        raise FrameError("expected base64")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FrameError("expected base64") from None


def _ready(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> Ready:
    return Ready(
        seq,
        t,
        str(frame.get("runner", "")),
        _take(frame, "protocol", int),
        _names(frame, "isolation"),
        _names(frame, "weakened"),
        execution,
    )


def _started(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> Started:
    return Started(seq, t, _take(frame, "pid", int), _take(frame, "attempt", int, 1), execution)


def _output(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> Output:
    data = frame.get("data")
    if type(data) is str:
        return Output(seq, t, frame["type"], data, execution)
    return Output(seq, t, frame["type"], _decode(frame.get("base64")), execution)


def _progress(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> Progress:
    fraction: float | None = _take(frame, "fraction", (int, float), None)
    return Progress(seq, t, fraction, _text(frame), execution)


def _file(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> FileChunk:
    path: str = _take(frame, "path", str)
    if not encodes(path):
        raise FrameError("path: expected text without lone surrogates")
    return FileChunk(
        seq,
        t,
        path,
        _take(frame, "size", int, None),
        _take(frame, "mode", (str, int), None),
        _decode(frame.get("data", "")),
        _take(frame, "last", bool, False),
        execution,
    )


def _error(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> RunnerError:
    return RunnerError(seq, t, _take(frame, "code", str), _text(frame), execution)


def _result(frame: Mapping[str, Any], seq: int, t: float, execution: str | None) -> Result:
    return Result(seq, t, parse_result(frame), execution)


def parse_result(frame: Mapping[str, Any]) -> ExecutionResult:
    """Return what a ``result`` frame says.

    A tool may return what no status can hold: a thousand levels, lone surrogates. That ends as ``ToolError``.

    Raises:
        FrameError: it is no such frame; the reason is not known, or a part has another type.
    """
    try:
        reason = Reason(str(frame.get("reason")))
    except ValueError:
        raise FrameError("reason: not one of the known reasons") from None
    message, error, value = _text(frame), _part(frame, "error", ExecutionError), frame.get("result")
    finding = json_problem(value, any_integer=True)
    if finding is not None:
        place = format_path(("result", *finding.location[:4]))
        message = f"the tool returned what cannot be passed on: {place}: {finding.message}"
        reason, value = Reason.TOOL_ERROR, None
        error = ExecutionError(type="ResultRefused", message=message, field=place)
    elif error is not None and json_problem(error.details, any_integer=True) is not None:
        error = error.model_copy(update={"details": None})
    return ExecutionResult(
        reason=reason,
        message=message,
        exit_code=_take(frame, "exitCode", int, None),
        signal=_take(frame, "signal", int, None),
        result=value,
        error=error,
        limit=_part(frame, "limit", LimitBreach),
        truncated=_take(frame, "truncated", bool, False),
        denials=tuple(_model(Denial, part, "denials") for part in _parts(frame, "denials", _MOST_DENIALS)),
        files=tuple(_returned(part) for part in _parts(frame, "files", _MOST_FILES)),
        usage=_part(frame, "usage", Usage),
    )


_Model = TypeVar("_Model", ExecutionError, LimitBreach, Denial, Usage)


def _part(frame: Mapping[str, Any], key: str, model: type[_Model]) -> _Model | None:
    part = frame.get(key)
    return None if part is None else _model(model, part, key)


def _model(model: type[_Model], part: Any, key: str) -> _Model:
    """Read a part that the status holds too. A newer runner may say more than this knows."""
    try:
        return model.model_validate(part, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        problem = problems_in(error, model, prefix=(key,))[0]
        raise FrameError(str(problem)) from None


def _returned(part: Any) -> ReturnedFile:
    if not isinstance(part, dict):
        raise FrameError("files: expected a list of objects")
    return ReturnedFile(
        _take(part, "path", str), _take(part, "size", int, 0), _take(part, "skipped", str, None)
    )


_PARSERS: dict[str, Callable[[Mapping[str, Any], int, float, str | None], Frame]] = {
    "ready": _ready,
    "started": _started,
    "stdout": _output,
    "stderr": _output,
    "progress": _progress,
    "file": _file,
    "result": _result,
    "error": _error,
}
