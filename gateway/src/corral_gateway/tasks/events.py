"""What happens to a task, as numbered events that a reader can ask for again from any of them on. Pure."""

import base64
from dataclasses import dataclass
from typing import Any

from corral.api import AgentTask, Frame, Output, Progress, Result, Started

#: The largest number that an event can have: a place in a cluster takes so many bits (``cluster.places``).
HIGHEST_NUMBER = 2**90 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a task. ``seq`` grows: on this machine from 1 without gaps, in a cluster by place."""

    seq: int
    kind: str
    data: dict[str, Any]


def of_frame(execution: str, frame: Frame) -> tuple[str, dict[str, Any]] | None:
    """Return kind and data of what a runner said; None: it is of no interest outside."""
    match frame:
        case Started():
            return "started", {"execution": execution, "attempt": frame.attempt}
        case Output(data=bytes()):
            content = base64.b64encode(frame.raw).decode("ascii")
            return "output", {"execution": execution, "stream": frame.stream, "base64": content}
        case Output():
            return "output", {"execution": execution, "stream": frame.stream, "text": frame.text}
        case Progress():
            data: dict[str, Any] = {"execution": execution, "message": frame.message}
            return "progress", data if frame.fraction is None else {**data, "fraction": frame.fraction}
        case Result():
            result = frame.result
            return "ended", {"execution": execution, "reason": result.reason, "message": result.message}
        case _:
            return None


def of_end(task: AgentTask) -> tuple[str, dict[str, Any]]:
    """Return kind and data of a task's last event."""
    status = task.status
    assert status is not None
    return "finished", {"phase": status.phase, "reason": status.reason, "message": status.message or ""}
