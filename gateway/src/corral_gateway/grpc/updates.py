"""From what happens to a task to TaskUpdates. Pure."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from corral.api import AgentTask
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.outcomes import call_of, result_of, result_text, state_of
from corral_gateway.tasks.events import Event


@dataclass(slots=True)
class Updates:
    """Tells of one task, in order."""

    task: AgentTask
    _ended: int = 0
    _fractions: dict[str, float] = field(default_factory=dict)
    #: The executions whose results were told.
    _told: set[str] = field(default_factory=set)

    def taken_in(self) -> pb.TaskUpdate:
        """Return the first update."""
        return self._update(pb.AGENT_STATE_PENDING, "the task was taken in")

    def of(self, event: Event) -> pb.TaskUpdate | None:
        """Return the update of an event; None: the task's end, of which ``ended`` tells more."""
        data = event.data
        match event.kind:
            case "started":
                update = self._update(pb.AGENT_STATE_EXECUTING, f"{data['execution']} has started")
                update.tool_call.CopyFrom(call_of(self.task, data["execution"]))
                return update
            case "output" if "text" in data:
                return self._update(pb.AGENT_STATE_EXECUTING, data["text"])
            case "output":
                text = base64.b64decode(data["base64"]).decode(errors="replace")
                return self._update(pb.AGENT_STATE_EXECUTING, text)
            case "progress":
                if "fraction" in data:
                    self._fractions[data["execution"]] = min(max(data["fraction"], 0.0), 1.0)
                return self._update(pb.AGENT_STATE_EXECUTING, data["message"] or "")
            case "ended":
                self._ended += 1
                self._fractions.pop(data["execution"], None)
                told = f"{data['execution']} has ended: {data['reason']}"
                return self._update(pb.AGENT_STATE_EXECUTING, told)
            case _:
                return None

    def may_know_more(self, event: Event) -> bool:
        """Say whether an execution's result may be there: not when its runner says so, which may be corrected from
        outside, but when the chain goes on. Where there are retries, only the end is certain.
        """
        return event.kind == "started" and len(self.task.spec.steps) > 1 and self.task.spec.retry is None

    def known(self, task: AgentTask | None) -> Iterator[pb.TaskUpdate]:
        """Return the results that are there and were not told.

        Args:
            task: as it stands; None: it has gone.
        """
        for execution in () if task is None else task.executions:
            if execution.reason is None or execution.name in self._told:
                continue
            self._told.add(execution.name)
            update = self._update(pb.AGENT_STATE_EXECUTING, f"{execution.name}: {execution.reason}")
            update.tool_result.CopyFrom(result_of(execution))
            yield update

    def ended(self, task: AgentTask) -> Iterator[pb.TaskUpdate]:
        """Return what came of each call that was not told yet, and then of the whole.

        Args:
            task: as it ended.
        """
        state = state_of(task)
        yield from self.known(task)
        told = task.status.message if task.status is not None else None
        last = self._update(state, result_text(task) if task.succeeded else told or str(task.reason))
        last.progress = 1.0
        yield last

    def _update(self, state: pb.AgentState.ValueType, message: str) -> pb.TaskUpdate:
        total = len(self.task.spec.steps) or 1
        progress = min((self._ended + sum(self._fractions.values())) / total, 1.0)
        uid = self.task.metadata.uid or ""
        return pb.TaskUpdate(task_id=uid, state=state, message=message, progress=progress)
