"""Everything that a client can do at a gateway, as conversations: see ``conversation``."""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from corral.api import AgentTask, Frame, Phase, Reason, Tool
from corral.client.gateway import answers, requests
from corral.client.gateway.conversation import (
    Answer,
    CutError,
    Emit,
    Pause,
    Read,
    Request,
    Talk,
    translated,
)
from corral.client.gateway.errors import GatewayError, RefusedError, UnreachableError
from corral.client.gateway.events import LogReader, TaskEvent, frame_of
from corral.client.gateway.following import SILENCE_SECONDS, followed
from corral.client.gateway.requests import AuditFilter, Submission
from corral.client.gateway.retrying import Clock, Deadline, Sender

_T = TypeVar("_T")

#: One request waits so long: less than the timeout of any proxy that is in wide use.
_WAIT_SECONDS = 25.0
#: What an answer may take beyond the time that was asked for.
_GRACE_SECONDS = 15.0
#: What is left to do when the caller has gone: cancelling its task.
_LAST_WORD_SECONDS = 5.0
_PAGE = 100

#: Called with the execution's name and each of its frames.
OnFrame = Callable[[str, Frame], None]
#: Called with the execution's name, the path and the content of each file that came back.
OnFile = Callable[[str, str, bytes], None]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway to talk to. Deadlines are of whole conversations, in seconds; None: as long as it takes."""

    sender: Sender
    clock: Clock

    # --- tasks ---

    def submit(self, asked: Submission) -> Talk[AgentTask]:
        """Have a task taken in: once, however often it has to be sent."""
        return (yield from self._created(asked, asked.key or _new_key(), 0, self._deadline(None)))

    def get(self, uid: str) -> Talk[AgentTask]:
        """Return a task as it stands."""
        return (yield from self._ask(requests.get_task(uid), answers.read_task))

    def wait(self, uid: str, timeout: float | None) -> Talk[AgentTask]:
        """Return a task when it has ended, however long it takes."""
        deadline = self._deadline(timeout)
        return (yield from self._whole((yield from self._ended(uid, deadline)), deadline))

    def run(
        self,
        asked: Submission,
        timeout: float | None,
        *,
        on_frame: OnFrame | None = None,
        on_file: OnFile | None = None,
        on_taken_in: Callable[[str], None] | None = None,
    ) -> Talk[AgentTask]:
        """Have a task taken in, and return it when it has ended. Whatever ends this before, ends the task too.

        Args:
            asked: what is to run.
            timeout: of it all, in seconds.
            on_frame: hears what happens.
            on_file: gets the files that came back.
            on_taken_in: is told the task's id as soon as there is one.
        """
        key, deadline, uid = asked.key or _new_key(), self._deadline(timeout), None
        try:
            at_once = on_frame is not None or on_taken_in is not None
            seconds = 0.0 if at_once else deadline.at_most(_WAIT_SECONDS)
            task = yield from self._created(asked, key, seconds, deadline)
            uid = task.metadata.uid or ""
            if on_taken_in is not None:
                on_taken_in(uid)
            if on_frame is not None:
                hear = _hearing(on_frame)
                yield from translated(followed(self.sender, uid, 0, deadline), hear)
            if on_frame is not None or task.reason is None:
                task = yield from self._ended(uid, deadline)
            if on_file is not None:
                yield from self._handed_back(task, on_file, deadline)
            return (yield from self._whole(task, deadline))
        except GeneratorExit:
            raise
        except BaseException as error:
            if uid is not None or not isinstance(error, RefusedError):
                with suppress(GatewayError, CutError):
                    uid = yield from self._given_up(asked, key, uid)
            if isinstance(error, GatewayError):
                error.task_id = uid
            raise

    def tasks(
        self, phase: Phase | str | None, tool: str | None, reason: Reason | str | None, most: int | None
    ) -> Talk[None]:
        """Emit the caller's tasks, newest first, page by page as they are asked for."""
        after, left = None, most
        while left is None or left > 0:
            limit = _PAGE if left is None else min(_PAGE, left)
            request = requests.list_tasks(phase=phase, tool=tool, reason=reason, limit=limit, after=after)
            page = yield from self._ask(request, answers.read_tasks)
            for task in page.items[:limit]:
                yield Emit(task)
            left = None if left is None else left - len(page.items)
            after = page.after
            if after is None:
                return

    def cancel(self, uid: str) -> Talk[AgentTask]:
        """Ask for a task's end, and return it as it stands."""
        return (yield from self._ask(requests.cancel_task(uid), answers.read_task))

    def events(self, uid: str, after: int, *, follow: bool) -> Talk[None]:
        """Emit what happens to a task, each event once and in order, through cuts and restarts of the gateway."""
        return followed(self.sender, uid, after, self._deadline(None), follow=follow)

    def logs(self, uid: str, *, follow: bool) -> Talk[None]:
        """Emit the text that a task's tools print."""
        return translated(self.events(uid, 0, follow=follow), LogReader().feed)

    def files(self, uid: str) -> Talk[list[answers.TaskFile]]:
        """Return what a task brought back, without the contents."""
        return (yield from self._ask(requests.list_files(uid), answers.read_files))

    def file(self, uid: str, path: str, execution: str | None) -> Talk[bytes]:
        """Return the content of a file that a task brought back."""
        return (yield from self._ask(requests.get_file(uid, path, execution), _content))

    def remove_files(self, uid: str) -> Talk[None]:
        """Have the artifact store keep nothing of an ended task any more."""
        yield from self._ask(requests.remove_files(uid), _content)

    def output(self, uid: str, what: str, execution: str | None) -> Talk[bytes]:
        """Return all that an execution printed, or its result as JSON."""
        return (yield from self._ask(requests.get_output(uid, what, execution), _content))

    # --- tools ---

    def tools(
        self,
        query: str,
        categories: Collection[str],
        tags: Collection[str],
        *,
        exclude_dangerous: bool,
        max_results: int | None,
    ) -> Talk[list[Tool]]:
        """Return the tools that fit, best first."""
        request = requests.find_tools(
            query,
            categories=categories,
            tags=tags,
            exclude_dangerous=exclude_dangerous,
            max_results=max_results,
        )
        return (yield from self._ask(request, answers.read_tools))

    def tool(self, name: str) -> Talk[Tool]:
        """Return a tool."""
        return (yield from self._ask(requests.get_tool(name), answers.read_tool))

    def execute(
        self, name: str, parameters: Mapping[str, Any], timeout: float | None
    ) -> Talk[answers.ToolResult]:
        """Execute a tool and return its result."""
        deadline = self._deadline(timeout)
        # The answer comes when the tool has ended; how long it may take, its limits say.
        silence = min(deadline.left, 86400.0)
        answer = yield from self.sender.send(
            requests.execute_tool(name, parameters, _new_key()), deadline, silence_seconds=silence
        )
        return answers.read_result(answer)

    def audit(self, wanted: AuditFilter, most: int | None) -> Talk[None]:
        """Emit audit records, newest first, page by page as they are asked for."""
        after, left = None, most
        while left is None or left > 0:
            limit = _PAGE if left is None else min(_PAGE, left)
            page = yield from self._ask(requests.list_audit(wanted, limit, after), answers.read_audit)
            for record in page.items:
                yield Emit(record)
            left = None if left is None else left - len(page.items)
            after = page.after
            if after is None:
                return

    def audit_export(self, wanted: AuditFilter, form: str) -> Talk[None]:
        """Emit the bytes of an export. One that is cut is no export: it raises."""
        request = requests.export_audit(wanted, form)
        yield from self.sender.send(
            request, self._deadline(None), silence_seconds=SILENCE_SECONDS, opens=True
        )
        while True:
            try:
                data: bytes = yield Read()
            except CutError as cut:
                raise UnreachableError(f"the export was cut off: {cut}", remedy="export again") from None
            if not data:
                return
            yield Emit(data)

    def whoami(self) -> Talk[answers.Identity]:
        """Return who the gateway takes the caller for."""
        return (yield from self._ask(requests.whoami(), answers.read_identity))

    # --- parts ---

    def _deadline(self, seconds: float | None) -> Deadline:
        return Deadline.after(self.clock, seconds)

    def _ask(
        self, request: Request, read: Callable[[Answer], _T], deadline: Deadline | None = None
    ) -> Talk[_T]:
        return read((yield from self.sender.send(request, deadline or self._deadline(None))))

    def _created(
        self, asked: Submission, key: str, wait_seconds: float, deadline: Deadline
    ) -> Talk[AgentTask]:
        request = requests.create_task(asked, key, wait_seconds)
        silence = wait_seconds + _GRACE_SECONDS
        return answers.read_task((yield from self.sender.send(request, deadline, silence_seconds=silence)))

    def _ended(self, uid: str, deadline: Deadline) -> Talk[AgentTask]:
        tries = 0
        while True:
            seconds = deadline.at_most(_WAIT_SECONDS)
            began = self.clock.now()
            request, silence = requests.get_task(uid, seconds), seconds + _GRACE_SECONDS
            task = answers.read_task(
                (yield from self.sender.send(request, deadline, silence_seconds=silence))
            )
            if task.reason is not None:
                return task
            # A gateway that is shutting down may answer at once.
            tries = tries + 1 if self.clock.now() - began < seconds / 2 else 0
            if tries:
                yield Pause(min(self.sender.backoff(tries), max(deadline.left, 0)))

    def _whole(self, task: AgentTask, deadline: Deadline) -> Talk[AgentTask]:
        """Return a task with the results that were too large for its status."""
        executions = []
        for execution in task.executions:
            if any(one.name == "result" for one in execution.stored):
                request = requests.get_output(task.metadata.uid or "", "result", execution.name)
                result = yield from self._ask(request, answers.read_value, deadline)
                executions.append(execution.model_copy(update={"result": result}))
            else:
                executions.append(execution)
        if task.status is None or tuple(executions) == task.executions:
            return task
        status = task.status.model_copy(update={"executions": tuple(executions)})
        return task.model_copy(update={"status": status})

    def _handed_back(self, task: AgentTask, on_file: OnFile, deadline: Deadline) -> Talk[None]:
        """Give the files that a task brought back, as far as they were kept."""
        for execution in task.executions:
            for file in execution.files:
                data = file.data
                if data is None and file.stored:
                    request = requests.get_file(task.metadata.uid or "", file.path, execution.name)
                    data = yield from self._ask(request, _content, deadline)
                if data is not None:
                    on_file(execution.name, file.path, data)

    def _given_up(self, asked: Submission, key: str, uid: str | None) -> Talk[str]:
        """Cancel the task of a caller who does not wait any more, known or not; return its id."""
        hasty, deadline = Gateway(Sender(self.clock, 0), self.clock), self._deadline(_LAST_WORD_SECONDS)
        if uid is None:
            # Whether it arrived is not known. The key gives the same task, or one that ends before it begins.
            uid = (yield from hasty._created(asked, key, 0, deadline)).metadata.uid or ""
        yield from hasty._ask(requests.cancel_task(uid), answers.read_task, deadline)
        return uid


def _content(answer: Answer) -> bytes:
    return answer.body


def _new_key() -> str:
    return str(uuid.uuid4())


def _hearing(on_frame: OnFrame) -> Callable[[TaskEvent], Iterator[Any]]:
    def hear(event: TaskEvent) -> Iterator[Any]:
        frame = frame_of(event)
        if frame is not None:
            on_frame(*frame)
        return iter(())

    return hear
