"""``AgentService``: each method from its request to its answer. Who may call it is the door's business."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from corral import __version__
from corral.api import MAXIMUM_LIMITS, AgentTask, Problem
from corral.catalogue import Catalogue
from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral_gateway.context import CURRENT
from corral_gateway.grpc.attendance import Attendance
from corral_gateway.grpc.capabilities import Capabilities
from corral_gateway.grpc.machine import memory_usage_percent
from corral_gateway.grpc.outcomes import refusal_of, response_of
from corral_gateway.grpc.requests import task_of_request
from corral_gateway.grpc.stored import with_stored
from corral_gateway.grpc.updates import Updates
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError
from corral_gateway.services import Services
from corral_gateway.tools.discovery import MOST_LETTERS, MOST_RESULTS, tool_named
from corral_gateway.tools.listing import Wanted

_MODES = (pb.EXECUTION_MODE_SIMPLE, pb.EXECUTION_MODE_STANDARD)


class AgentService(pb_grpc.AgentServiceServicer):
    """Serves tasks and tools. Names are those of the description."""

    def __init__(self, services: Services, attendance: Attendance) -> None:
        self._services = services
        self._attendance = attendance
        self._capabilities = Capabilities()
        self._began = time.monotonic()

    async def ExecuteTask(self, request: pb.ExecuteTaskRequest, context: Any) -> pb.ExecuteTaskResponse:  # noqa: N802
        """Run a task and answer with its result."""
        caller = _caller()
        asked = task_of_request(request, caller.name, _key(context))
        async with self._attendance.attended(asked, caller) as task:
            ended = await self._end_of(task, caller)
        refusal = refusal_of(ended)
        if refusal is not None:
            raise refusal
        return response_of(ended)

    async def StreamExecuteTask(  # noqa: N802
        self, request: pb.ExecuteTaskRequest, context: Any
    ) -> AsyncIterator[pb.TaskUpdate]:
        """Run a task and tell what happens."""
        caller, tasks = _caller(), self._services.tasks
        asked = task_of_request(request, caller.name, _key(context))
        async with self._attendance.attended(asked, caller) as task:
            updates = Updates(task)
            yield updates.taken_in()
            events = await tasks.events(task.metadata.uid or "", caller, 0)
            assert events is not None
            async with aclosing(events) as happening:
                async for event in happening:
                    update = updates.of(event)
                    if update is not None:
                        yield update
                    if updates.may_know_more(event):
                        for update in updates.known(await tasks.get(task.metadata.uid or "", caller)):
                            yield update
            ended = await self._end_of(task, caller)
            for update in updates.ended(ended):
                yield update
        refusal = refusal_of(ended)
        if refusal is not None:
            raise refusal

    async def _end_of(self, task: AgentTask, caller: Caller) -> AgentTask:
        """Return a task that has ended, whole.

        Raises:
            ProblemError: it will not end here.
        """
        tasks = self._services.tasks
        ended = await tasks.wait_to_end(task.metadata.uid or "", caller)
        return await with_stored(ended, tasks)

    def _catalogue(self) -> Catalogue:
        return self._services.tools.catalogue(_caller().name)

    async def DiscoverTools(  # noqa: N802
        self, request: pb.DiscoverToolsRequest, _context: Any
    ) -> pb.DiscoverToolsResponse:
        """Find tools."""
        if len(request.query) > MOST_LETTERS:
            raise _wrong("query", f"expected at most {MOST_LETTERS} characters, found {len(request.query)}")
        if not 0 <= request.max_results <= MOST_RESULTS:
            raise _wrong("max_results", f"expected 0 to {MOST_RESULTS}, found {request.max_results}")
        wanted = Wanted(
            request.query,
            tuple(request.categories),
            tuple(request.tags),
            request.exclude_dangerous,
            request.max_results or None,
        )
        catalogue = self._catalogue()
        found = wanted.among(catalogue)
        return pb.DiscoverToolsResponse(tools=[self._capabilities.of(catalogue, tool) for tool in found])

    async def GetToolCapability(  # noqa: N802
        self, request: pb.GetToolCapabilityRequest, _context: Any
    ) -> pb.GetToolCapabilityResponse:
        """Describe a tool."""
        if not request.tool_id:
            raise _wrong("tool_id", "is missing")
        catalogue = self._catalogue()
        tool = tool_named(catalogue, request.tool_id)
        return pb.GetToolCapabilityResponse(tool=self._capabilities.of(catalogue, tool))

    async def GetCapabilities(  # noqa: N802
        self, _request: pb.GetCapabilitiesRequest, _context: Any
    ) -> pb.GetCapabilitiesResponse:
        """Tell what this gateway can do."""
        return pb.GetCapabilitiesResponse(
            supported_tools=[tool.name for tool in Wanted().among(self._catalogue())],
            supported_modes=_MODES,
            max_memory_mb=int(MAXIMUM_LIMITS.amount("memory") or 0) >> 20,
            max_concurrent_tasks=self._services.settings.concurrent_tasks,
            version=__version__,
        )

    async def HealthCheck(self, _request: pb.HealthCheckRequest, _context: Any) -> pb.HealthCheckResponse:  # noqa: N802
        """Tell how this gateway is."""
        why_not = self._services.readiness.why_not
        (active,) = self._services.metrics.active_tasks.collect()
        return pb.HealthCheckResponse(
            healthy=why_not is None,
            message=why_not or "serving",
            uptime_seconds=int(time.monotonic() - self._began),
            active_tasks=int(active.samples[0].value),
            memory_usage_percent=memory_usage_percent(),
        )


def _caller() -> Caller:
    context = CURRENT.get()
    assert context is not None  # the door has let them in
    assert context.caller is not None
    return context.caller


def _key(context: Any) -> str | None:
    """Return the idempotency key of a call, under the name that HTTP has for it."""
    return next((value for name, value in context.invocation_metadata() if name == "idempotency-key"), None)


def _wrong(field: str, message: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "InvalidRequest",
        f"{field}: {message}",
        problems=[Problem(field, message)],
    )
