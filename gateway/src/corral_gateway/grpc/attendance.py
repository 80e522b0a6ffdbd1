"""Tasks that are there for the call that asked for them, and end when nobody waits for them any more."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from corral.api import AgentTask
from corral_gateway.identity.caller import Caller
from corral_gateway.tasks.service import TaskService

_T = TypeVar("_T")


async def unbroken(work: Coroutine[Any, Any, _T]) -> _T:
    """Await work that goes on to its end where the waiting is cancelled: no write to the database is left half-way.

    gRPC cancels whatever serves a call the moment its caller goes away.
    """
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_looked_at)
    return await asyncio.shield(task)


class Attendance:
    """Takes tasks in for calls."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks
        self._leaving: set[asyncio.Task[None]] = set()
        self._ends = False

    @asynccontextmanager
    async def attended(self, asked: AgentTask, caller: Caller) -> AsyncIterator[AgentTask]:
        """Take a task in; if the call is cancelled, or its deadline passes, within this, the task is cancelled.

        One with an idempotency key goes on: the same call again finds it. So does one whose call is ended by the
        gateway's own end; what becomes of it then, its executor knows.

        Raises:
            ProblemError: it is not taken in.
        """
        submitting = asyncio.get_running_loop().create_task(self._tasks.submit(asked, caller))
        submitting.add_done_callback(_looked_at)
        try:
            yield await asyncio.shield(submitting)
        except (asyncio.CancelledError, GeneratorExit):
            if asked.spec.idempotency_key is None and not self._ends:
                leaving = asyncio.get_running_loop().create_task(self._leave(submitting, caller))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            raise

    def end(self) -> None:
        """Cancel no task any more: it is the gateway that goes, not who waits."""
        self._ends = True

    async def close(self) -> None:
        """Wait until every task is told that nobody waits for it."""
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _leave(self, submitting: "asyncio.Task[AgentTask]", caller: Caller) -> None:
        await asyncio.wait([submitting])
        if not submitting.cancelled() and submitting.exception() is None:
            await self._tasks.cancel(submitting.result().metadata.uid or "", caller)


def _looked_at(task: "asyncio.Task[Any]") -> None:
    """Keep asyncio from complaining of an error that nobody was left to be told."""
    if not task.cancelled():
        task.exception()
