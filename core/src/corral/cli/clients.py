"""What runs the tasks of ``corral run``: this machine, or a gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from corral.api import AgentTask, AgentTaskStatus, Reason, phase_of
from corral.catalogue import Catalogue
from corral.cli.gateway import Gateway
from corral.client.asynchronous import AsyncClient
from corral.client.backends import BackendName
from corral.client.task_run import OnFile, OnFrame

if TYPE_CHECKING:
    from corral.client.gateway import AsyncGatewayClient


class Client(Protocol):
    """Runs tasks: ``AsyncClient``, or ``AsyncGatewayClient``."""

    async def run_task(
        self,
        task: AgentTask,
        *,
        on_frame: OnFrame | None = None,
        on_file: OnFile | None = None,
        cancel: asyncio.Event | None = None,
    ) -> AgentTask:
        """Run a task and return it with its status; see ``Executor.run``."""
        ...


#: Opens a client that keeps so many sandboxes waiting, where that is its affair.
OpenClient: TypeAlias = Callable[[int], AbstractAsyncContextManager[Client]]


def on_this_machine(
    catalogue: Catalogue, backend: BackendName | None, waiting: int
) -> AbstractAsyncContextManager[Client]:
    """Return a client of this machine."""
    return AsyncClient(catalogue=catalogue, waiting=waiting, backend=backend)


@asynccontextmanager
async def at_gateway(
    gateway: Gateway, _waiting: int, *, is_one: bool, uploads: Mapping[str, bytes]
) -> AsyncIterator[Client]:
    """Open a client of a gateway.

    Args:
        gateway: the one.
        is_one: it is for a single task, whose refusal is an error of its own; of many, each may be refused by itself.
        uploads: files that go beside the single task.
    """
    async with gateway.async_client() as client:
        yield _One(client, uploads) if is_one else _Each(client)


class _One:
    """Sends files beside a task."""

    def __init__(self, client: "AsyncGatewayClient", uploads: Mapping[str, bytes]) -> None:
        self._client = client
        self._uploads = uploads

    async def run_task(self, task: AgentTask, **options: Any) -> AgentTask:
        return await self._client.run_task(task, uploads=self._uploads, **options)


class _Each:
    """Makes the refusal of one task the end of that task alone."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run_task(self, task: AgentTask, **options: Any) -> AgentTask:
        from corral.client.gateway import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError

        try:
            return await self._client.run_task(task, **options)
        except (ConflictError, ForbiddenError, InvalidRequestError, NotFoundError) as error:
            reason = Reason.PERMISSION_DENIED if isinstance(error, ForbiddenError) else Reason.INVALID_SPEC
            status = AgentTaskStatus(phase=phase_of(reason), reason=reason, message=str(error))
            return task.model_copy(update={"status": status})
