"""Takes tasks in for every door: asks who guards, then hands them to what runs them."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol

from corral.api import AgentTask, ExecutionStatus, StoredContent, Tool
from corral_gateway.audit.auditing import Auditing
from corral_gateway.context import CURRENT
from corral_gateway.identity.caller import Caller
from corral_gateway.life import Waiters
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.artifacts import TaskArtifacts
from corral_gateway.tasks.contents import Contents, check_contents, stored
from corral_gateway.tasks.events import Event
from corral_gateway.tasks.files import LeftFile
from corral_gateway.tasks.port import Executor, KeyUsedError, NoCapacityError, TaskFilter
from corral_gateway.tasks.stamps import is_made_of
from corral_gateway.tools.source import ToolSource
from corral_gateway.tracing import traced

_NOTHING: Contents = MappingProxyType({})
#: Longer than any task may take: what ends an execution is its own limit.
_FOR_EVER_SECONDS = 7 * 86400.0
#: So long the end of a task takes at most from its last execution's, as a rule.
_END_SECONDS = 30.0


class Guard(Protocol):
    """Something that may refuse a task before anything of it exists."""

    async def admit(self, task: AgentTask, tools: Sequence[Tool], caller: Caller) -> None:
        """Let a task through, and count it where there is something to count.

        Args:
            task: whole, with its id.
            tools: those that it names and that there are.
            caller: who wants it.

        Raises:
            ProblemError: it may not be, now or ever.
        """
        ...

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """Forget a task that was admitted here and never taken in: a later guard refused it, or the executor."""
        ...


class TaskService:
    """Tasks of callers. Another caller's is as one that does not exist."""

    def __init__(
        self,
        executor: Executor,
        tools: ToolSource,
        guards: Sequence[Guard],
        artifacts: TaskArtifacts,
        audit: Auditing,
        *,
        waiters: Waiters,
    ) -> None:
        self._artifacts = artifacts
        self._waiters = waiters
        self._executor = executor
        self._tools = tools
        self._guards = tuple(guards)
        self._audit = audit

    async def submit(self, task: AgentTask, caller: Caller, contents: Contents = _NOTHING) -> AgentTask:
        """Take a task in: when this returns, it will run or say why not, whatever happens.

        Args:
            task: whole, with its id.
            caller: who wants it.
            contents: of those of its files that do not stand in it, by their SHA-256.

        Returns:
            The task; with an idempotency key that was used before, the one that was made then.

        Raises:
            ProblemError: a guard refuses it, too many wait, its idempotency key was used for something else, or its
                files cannot be kept.
        """
        check_contents(task, contents, self._artifacts)
        task = traced(task)
        try:
            made = await self._executor.made_before(task, caller.name)
            if made is not None:
                self._audit.decided(made, caller, allowed=True, reason="Replayed")
                if contents and made.reason is None:
                    with stored():
                        await self._artifacts.complete(made.metadata.uid or "", caller.name, contents)
            return made if made is not None else await self._submit_guarded(task, caller, contents)
        except KeyUsedError:
            self._audit.decided(task, caller, allowed=False, by="idempotency", reason="IdempotencyKeyUsed")
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "IdempotencyKeyUsed",
                "this idempotency key was used for another request",
                remedy="send the same request again, or a new key",
            ) from None
        except NoCapacityError as error:
            self._audit.decided(task, caller, allowed=False, by="capacity", reason="NoCapacity")
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "NoCapacity",
                f"as many {'of your ' if error.own else ''}tasks wait as may; this one was not taken in",
                remedy="try again after the time that Retry-After names",
                retry_after_seconds=error.retry_after_seconds,
            ) from None

    async def allow(self, task: AgentTask, caller: Caller) -> None:
        """Ask the guards about a task that will not run, as if it did: its result is there already.

        Raises:
            ProblemError: one of them refuses it.
        """
        for guard in await self._admitted(task, caller):
            guard.withdrawn(task, caller)

    async def get(self, uid: str, caller: Caller) -> AgentTask | None:
        """Return a task as it stands; None: there is none."""
        return await self._executor.get(uid, caller.name)

    async def wait(self, uid: str, caller: Caller, seconds: float) -> AgentTask | None:
        """Return a task as soon as it has ended, or as it stands after so many seconds; None: there is none."""
        try:
            async with self._waiters.waiting():
                return await self._executor.wait(uid, caller.name, seconds)
        except TimeoutError:  # the gateway's time is over
            return await self.get(uid, caller)

    async def wait_to_end(self, uid: str, caller: Caller) -> AgentTask:
        """Return a task when it has ended, however long it takes. Its request's record says if it did not end well.

        Raises:
            ProblemError: it will not end here: somebody has deleted it, or the gateway ends before.
        """
        ended = await self.wait(uid, caller, _FOR_EVER_SECONDS)
        if ended is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "TaskNotFound", f"somebody has deleted the task {uid}")
        if ended.reason is None:
            # Without Retry-After: it was taken in, and whoever sent it again without a key would run it twice.
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "HandedOver",
                "the gateway ends before the task, which runs nevertheless: in its cluster, or after the next start",
                remedy=f"GET /v1/tasks/{uid} tells what becomes of it",
                headers={"Location": f"/v1/tasks/{uid}"},
            )
        context = CURRENT.get()
        if context is not None and not ended.succeeded:
            context.tool_reason = ended.reason.value
        return ended

    async def find(self, caller: Caller, wanted: TaskFilter) -> Sequence[AgentTask]:
        """Return tasks, newest first."""
        return await self._executor.find(caller.name, wanted)

    async def events(self, uid: str, caller: Caller, after: int) -> AsyncGenerator[Event] | None:
        """Return what happens to a task, from the event after a number on, to its end; None: there is none."""
        events = await self._executor.events(uid, caller.name, after)
        return None if events is None else self._waiters.following(events)

    async def cancel(self, uid: str, caller: Caller) -> AgentTask | None:
        """Ask for a task's end, and return it as it stands. One that has ended stays as it is."""
        return await self._executor.cancel(uid, caller.name)

    async def remove_files(self, uid: str, caller: Caller) -> bool:
        """Remove what the artifact store keeps of an ended task; its status stays. False: there is no such task.

        Raises:
            ProblemError: the task has not ended, or the store does not do it.
        """
        task = await self.get(uid, caller)
        if task is None:
            return False
        # Its end may be known a moment before all that it leaves is kept.
        ended = None if task.reason is None else await self.wait(uid, caller, _END_SECONDS)
        if ended is None or ended.reason is None:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "TaskNotEnded",
                "the task has not ended, and may need its files",
                remedy=f"wait for its end, or DELETE /v1/tasks/{uid} to cancel it",
            )
        with stored():
            await self._artifacts.remove(uid)
        return True

    async def stored_file(
        self, task: AgentTask, left: LeftFile, first: int, count: int
    ) -> AsyncIterator[bytes]:
        """Return a part of a file that a task left and that does not stand in its status.

        Raises:
            ProblemError: the store does not give it.
        """
        with stored():
            return await self._artifacts.file(
                task.metadata.uid or "", left.execution, left.file.path, first, count
            )

    async def stored_output(self, task: AgentTask, execution: ExecutionStatus, what: str) -> bytes:
        """Return all of a ``stdout``, ``stderr`` or ``result`` that does not stand in the task's status.

        Raises:
            ProblemError: the store does not give it.
        """
        with stored():
            return await self._artifacts.output(task.metadata.uid or "", execution.name, what)

    async def stored_output_in_pieces(
        self, task: AgentTask, execution: ExecutionStatus, stored_content: StoredContent
    ) -> AsyncIterator[bytes]:
        """Return the same piece by piece: who reads slowly holds no more of it than one.

        Raises:
            ProblemError: the store does not give it.
        """
        with stored():
            return await self._artifacts.output_in_pieces(
                task.metadata.uid or "", execution.name, stored_content.name, stored_content.size
            )

    async def _submit_guarded(self, task: AgentTask, caller: Caller, contents: Contents) -> AgentTask:
        admitted = await self._admitted(task, caller)
        taken = None
        try:
            if contents:
                await self._take_in(task, caller, contents)
            self._audit.decided(task, caller, allowed=True)
            taken = await self._executor.submit(task, caller.name)
            if contents and is_made_of(task, taken):
                await self._hand_over(task, taken, caller, contents)
        finally:
            if taken is None or not is_made_of(task, taken):
                for guard in admitted:
                    guard.withdrawn(task, caller)
                if contents:
                    await self._artifacts.forget(task.metadata.uid or "")
        return taken

    async def _take_in(self, task: AgentTask, caller: Caller, contents: Contents) -> None:
        try:
            with stored():
                await self._artifacts.take_in(task.metadata.uid or "", caller.name, contents)
        except ProblemError as error:
            self._audit.decided(task, caller, allowed=False, by="TaskArtifacts", reason=error.reason)
            raise

    async def _hand_over(self, task: AgentTask, taken: AgentTask, caller: Caller, contents: Contents) -> None:
        """Give a task its files, or end it: without them it is not what was asked for."""
        try:
            with stored():
                await self._artifacts.hand_over(task.metadata.uid or "", taken.metadata.uid or "", contents)
        except ProblemError:
            await self._executor.cancel(taken.metadata.uid or "", caller.name)
            raise

    async def _admitted(self, task: AgentTask, caller: Caller) -> Sequence[Guard]:
        """Return the guards that let a task through: all of them, or it is refused and none has counted it."""
        tools = self._tools.catalogue(caller.name).known(task.spec.called_tools)
        admitted: list[Guard] = []
        try:
            for guard in self._guards:
                await self._ask(guard, task, tools, caller)
                admitted.append(guard)
        except BaseException:
            for guard in admitted:
                guard.withdrawn(task, caller)
            raise
        return admitted

    async def _ask(self, guard: Guard, task: AgentTask, tools: Sequence[Tool], caller: Caller) -> None:
        try:
            await guard.admit(task, tools, caller)
        except ProblemError as error:
            self._audit.decided(task, caller, allowed=False, by=type(guard).__name__, reason=error.reason)
            raise
