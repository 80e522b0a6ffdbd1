"""One call of one tool, waited for: executed, or answered with a result that may be used again."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from corral.api import AgentTask, Reason, Tool
from corral_gateway.identity.caller import Caller
from corral_gateway.tasks.files import find_execution, stored_as
from corral_gateway.tasks.service import TaskService
from corral_gateway.tasks.stamps import is_made_of
from corral_gateway.tools.freshness import Freshness
from corral_gateway.tools.result_cache import ResultCache, cache_key


@dataclass(frozen=True, slots=True)
class Executed:
    """What came of a call."""

    #: The task that it came of.
    task_uid: str
    reason: Reason | None
    #: Its result, or what it printed where it has none.
    output: Any = None
    message: str = ""
    #: Seconds since it was executed, where it was not executed now.
    age_seconds: float | None = None
    #: The idempotency key had been used for the same call.
    replayed: bool = False


class ReuseObserver(Protocol):
    """Is told of calls that were answered with a result from before, for counts and for the audit. Never fails."""

    def reused(self, call: AgentTask, tool: Tool, caller: str, task_uid: str, age_seconds: float) -> None:
        """Note an answer.

        Args:
            call: the task that would have been made.
            tool: of the call.
            caller: who called.
            task_uid: the task that was executed then.
            age_seconds: since then.
        """
        ...


class ToolExecution:
    """Executes tools for every door."""

    def __init__(
        self, tasks: TaskService, cache: ResultCache, observers: Sequence[ReuseObserver] = ()
    ) -> None:
        self._tasks = tasks
        self._cache = cache
        self._observers = tuple(observers)

    async def execute(self, task: AgentTask, tool: Tool, caller: Caller, wanted: Freshness) -> Executed:
        """Execute a task of one tool, and wait for its end.

        Args:
            task: as ``intake.task_of`` makes it.
            tool: the one that it names.
            caller: who calls.
            wanted: how old a result may be.

        Raises:
            ProblemError: it is refused before it runs; see ``TaskService.submit``.
        """
        # A key asks for one certain execution, and its record.
        key = None if task.spec.idempotency_key is not None else cache_key(caller.name, tool, task)
        if key is not None:
            kept = await self._kept(key, task, tool, caller, wanted)
            if kept is not None:
                return kept
        taken = await self._tasks.submit(task, caller)
        uid = taken.metadata.uid or ""
        ended = await self._tasks.wait_to_end(uid, caller)
        message = (ended.status.message if ended.status is not None else None) or ""
        output = await self._output(ended) if ended.succeeded else None
        if key is not None and ended.succeeded and wanted.may_store:
            self._cache.put(key, tool, output, uid, time.monotonic())
        return Executed(uid, ended.reason, output, message, replayed=not is_made_of(task, taken))

    async def _kept(
        self, key: bytes, task: AgentTask, tool: Tool, caller: Caller, wanted: Freshness
    ) -> Executed | None:
        now = time.monotonic()
        kept = self._cache.get(key, now)
        if kept is None:
            return None
        age = now - kept.kept_at
        if wanted.max_age_seconds is not None and age >= wanted.max_age_seconds:
            return None
        await self._tasks.allow(task, caller)  # what a caller may not call now, it is not told either
        for observer in self._observers:
            observer.reused(task, tool, caller.name, kept.task_uid, age)
        return Executed(kept.task_uid, Reason.COMPLETED, json.loads(kept.output), age_seconds=age)

    async def _output(self, ended: AgentTask) -> Any:
        execution = find_execution(ended, None)
        for what in ("result", "stdout"):
            if execution is not None and stored_as(execution, what) is not None:
                data = await self._tasks.stored_output(ended, execution, what)
                return json.loads(data) if what == "result" else data.decode("utf-8", "replace")
            if what == "result" and ended.result is not None:
                return ended.result
        return ended.stdout
