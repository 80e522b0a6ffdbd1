"""From what a runner says, or a status, to the events that a reader has not been told of. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from corral.api import AgentTask, ExecutionStatus, Frame, Output, Progress, Started
from corral_gateway.tasks.cluster.places import ENDED, STARTED, Place
from corral_gateway.tasks.events import Event, of_end, of_frame


class Telling:
    """What one reader has been told of one task."""

    def __init__(self, after: int) -> None:
        """Begin.

        Args:
            after: number of the last event that the reader has; 0: none.
        """
        self._after = after
        self.place = Place.of(after)

    def begins(self, execution: int, attempt: int) -> None:
        """Begin to tell of an attempt. What the reader knows of the same one already is remembered."""
        if (self.place.execution, self.place.attempt) != (execution, attempt):
            self.place = Place(execution, attempt)

    def frames_begin(self) -> "Frames":
        """Return what takes a runner's frames, from its first one on."""
        return Frames(self, Place(self.place.execution, self.place.attempt))

    def of_status(self, execution: ExecutionStatus) -> Iterator[Event]:
        """Yield what is new in the status of the execution, which began, and may have ended."""
        timings = execution.timings
        if timings is not None and timings.started is not None and self.place.stage < STARTED:
            data = {"execution": execution.name, "attempt": execution.attempt}
            yield from self.tell(replace(self.place, stage=STARTED), "started", data)
        if execution.reason is None:
            return
        if execution.output is not None:
            for stream in ("stdout", "stderr"):
                text: str = getattr(execution.output, stream)
                told: int = getattr(self.place, stream)
                if len(text) > told:
                    data = {"execution": execution.name, "stream": stream, "text": text[told:]}
                    place = replace(self.place, stage=STARTED, **{stream: len(text)})
                    yield from self.tell(place, "output", data)
        data = {"execution": execution.name, "reason": execution.reason, "message": execution.message or ""}
        yield from self.tell(replace(self.place, stage=ENDED), "ended", data)

    def of_end(self, task: AgentTask, executions: int) -> Iterator[Event]:
        """Yield the last event."""
        yield from self.tell(Place(executions), *of_end(task))

    def tell(self, place: Place, kind: str, data: dict[str, Any]) -> Iterator[Event]:
        """Yield an event, if it is after what the reader has."""
        if place.number > self._after:
            self._after = place.number
            self.place = place
            yield Event(place.number, kind, data)


class Frames:
    """The frames of one attempt, told from the first one, of which a reader may know some."""

    def __init__(self, telling: Telling, start: Place) -> None:
        self._telling = telling
        self._place = start

    def take(self, execution: str, frame: Frame) -> Iterator[Event]:
        """Yield what a frame says, if it is new. Its end is the status's to tell: there it is as it stands."""
        place = self._place
        match frame:
            case Started():
                place = replace(place, stage=STARTED)
            case Output(stream="stdout"):
                place = replace(place, stage=STARTED, stdout=place.stdout + len(frame.text))
            case Output():
                place = replace(place, stage=STARTED, stderr=place.stderr + len(frame.text))
            case Progress():
                place = replace(place, stage=STARTED, progress=place.progress + 1)
            case _:
                return
        self._place = place
        told = of_frame(execution, frame)
        if told is not None:
            yield from self._telling.tell(place, *told)
