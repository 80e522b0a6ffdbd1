"""What happens to a task, as values; and the reader of server-sent events (HTML standard, 9.2.6). Pure."""

import json
from base64 import b64decode
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from corral.api import Frame, Output, Phase, Progress, Reason, Started
from corral.client.gateway.errors import AnswerError


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """A tool was started. ``seq`` counts a task's events, here as in all that follow."""

    seq: int
    execution: str
    attempt: int


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """A tool printed something: bytes, which may be cut anywhere."""

    seq: int
    execution: str
    stream: str  #: stdout or stderr
    data: bytes


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """How far a tool is. ``fraction`` is 0 to 1, or None where the end cannot be foreseen."""

    seq: int
    execution: str
    message: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """A tool ended."""

    seq: int
    execution: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """The task ended. The last event there is."""

    seq: int
    phase: Phase
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """One that this client does not know."""

    seq: int
    kind: str
    data: dict[str, Any]


TaskEvent: TypeAlias = (
    ExecutionStarted | OutputPiece | ProgressMade | ExecutionEnded | TaskFinished | OtherEvent
)


@dataclass(frozen=True, slots=True)
class ServerSent:
    """One block of a stream."""

    id: str
    event: str
    data: str


class StreamReader:
    """Takes the bytes of an event stream as they come, and gives the blocks that are whole."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._fields: dict[str, list[str]] = {}

    def feed(self, data: bytes) -> Iterator[ServerSent]:
        """Yield the blocks that end with these bytes."""
        text = self._rest + self._decoder.decode(data)
        # A return at the very end may be half of a line's end.
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = rest + held
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
            elif fields := self._fields:
                self._fields = {}
                if "data" in fields:
                    yield ServerSent(
                        fields.get("id", [""])[-1],
                        fields.get("event", ["message"])[-1],
                        "\n".join(fields["data"]),
                    )


def event_of(sent: ServerSent) -> TaskEvent:
    """Return the event that a block is.

    Raises:
        AnswerError: it is none.
    """
    try:
        seq, data = int(sent.id), json.loads(sent.data)
        execution = str(data.get("execution", ""))
        match sent.event:
            case "started":
                return ExecutionStarted(seq, execution, int(data.get("attempt", 1)))
            case "output":
                raw = (
                    b64decode(data["base64"], validate=True)
                    if "base64" in data
                    else _bytes(str(data["text"]))
                )
                return OutputPiece(seq, execution, str(data["stream"]), raw)
            case "progress":
                fraction = data.get("fraction")
                return ProgressMade(
                    seq,
                    execution,
                    str(data.get("message", "")),
                    None if fraction is None else float(fraction),
                )
            case "ended":
                return ExecutionEnded(seq, execution, str(data["reason"]), str(data.get("message") or ""))
            case "finished":
                return TaskFinished(
                    seq, Phase(data["phase"]), Reason(data["reason"]), str(data.get("message") or "")
                )
            case kind:
                return OtherEvent(seq, kind, dict(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnswerError(
            f"an event of the gateway cannot be understood: {error!r}",
            remedy="look whether the gateway is of a newer version than this client",
        ) from None


def frame_of(event: TaskEvent) -> tuple[str, Frame] | None:
    """Return the execution's name and the frame that a task of this machine would have sent; None: it would not.

    Its time and process id are not known: they are 0.
    """
    match event:
        case ExecutionStarted():
            return event.execution, Started(event.seq, 0.0, 0, event.attempt)
        case OutputPiece():
            return event.execution, Output(event.seq, 0.0, event.stream, event.data)
        case ProgressMade():
            return event.execution, Progress(event.seq, 0.0, event.fraction, event.message)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class LogText:
    """Text that a tool printed. What is not UTF-8 is replaced."""

    execution: str
    stream: str  #: stdout or stderr
    text: str


class LogReader:
    """Makes text of pieces of output that were cut anywhere."""

    def __init__(self) -> None:
        self._decoders: dict[tuple[str, str], Any] = {}

    def feed(self, event: TaskEvent) -> Iterator[LogText]:
        """Yield what can be read after this event; the last one brings what was held back."""
        if isinstance(event, OutputPiece):
            key = event.execution, event.stream
            if key not in self._decoders:
                self._decoders[key] = getincrementaldecoder("utf-8")("replace")
            if text := self._decoders[key].decode(event.data):
                yield LogText(*key, text)
        elif isinstance(event, TaskFinished):
            for key, decoder in self._decoders.items():
                if text := decoder.decode(b"", final=True):
                    yield LogText(*key, text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
