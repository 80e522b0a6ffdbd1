"""``/v1/tools``, and ``/tools`` as the Agent Core API has it."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from corral.api import Reason
from corral.catalogue import Catalogue
from corral_gateway.bodies import body_of, read_model
from corral_gateway.http_door import allowed, context_of
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.manifests import ToolManifest
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of
from corral_gateway.tasks.intake import task_of, with_key
from corral_gateway.tools.discovery import MOST_LETTERS, MOST_RESULTS, tool_named
from corral_gateway.tools.freshness import freshness_of
from corral_gateway.tools.listing import Wanted

router = APIRouter(tags=["tools"])

#: Reasons of the request itself, with the status that says so.
_REQUEST_REASONS = {
    Reason.TOOL_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.INVALID_ARGUMENTS: HTTPStatus.BAD_REQUEST,
    Reason.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
}
_Reader = Annotated[Caller, Depends(allowed(Scope.TOOLS_READ))]
_HARMLESS = "Leave out tools that are declared dangerous."
_Runner = Annotated[Caller, Depends(allowed(Scope.TASKS_RUN))]


class ToolList(BaseModel):
    """Tools, best first."""

    items: list[ToolManifest] = Field(description="Tool manifests.")


class ExecuteRequest(BaseModel):
    """What is to be executed."""

    model_config = ConfigDict(extra="forbid")

    tool_name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The tool.")
    parameters: dict[str, Any] = Field({}, description="Its arguments.")


class ExecuteResponse(BaseModel):
    """What came of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"success": True, "output": 100, "error": None}]}
    )

    success: bool = Field(description="The tool ended well.")
    output: Any = Field(None, description="Its result, or what it printed where it has none.")
    error: str | None = Field(None, description="Why it did not end well.")


async def _catalogue(request: Request) -> Catalogue:
    caller = context_of(request).caller
    assert caller is not None  # the dependency that lets them in stands before this one
    return services_of(request).tools.catalogue(caller.name)


_Catalogue = Annotated[Catalogue, Depends(_catalogue)]


@router.get("/v1/tools", operation_id="listTools", summary="Find tools", response_model=ToolList)
async def find(
    *,
    _caller: _Reader,
    catalogue: _Catalogue,
    request: Request,
    query: Annotated[
        str, Query(max_length=MOST_LETTERS, description="Words; the best match comes first.")
    ] = "",
    category: Annotated[tuple[str, ...], Query(description="Only of one of these; again for more.")] = (),
    tag: Annotated[tuple[str, ...], Query(description="Only with one of these; again for more.")] = (),
    exclude_dangerous: Annotated[bool, Query(description=_HARMLESS)] = False,
    max_results: Annotated[int | None, Query(ge=1, le=MOST_RESULTS, description="So many at most.")] = None,
    if_none_match: Annotated[
        str | None, Header(description="Answer 304 if the list is still this one.")
    ] = None,
) -> Response:
    """Search name, description, category and tags; without a query all tools, by name."""
    wanted = Wanted(query, category, tag, exclude_dangerous, max_results)
    found = services_of(request).listings.of(catalogue, wanted)
    headers = {"ETag": found.etag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and found.etag in {
        one.strip().removeprefix("W/") for one in if_none_match.split(",")
    }:
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    return Response(found.body, HTTPStatus.OK, headers, "application/json")


@router.get("/v1/tools/{name}", operation_id="getTool", summary="Describe a tool")
async def get(_caller: _Reader, catalogue: _Catalogue, name: str) -> ToolManifest:
    """Return a tool with its schemas, examples and limits."""
    return tool_named(catalogue, name).to_wire()


@router.get("/tools/list", operation_id="listToolNames", summary="List the names of tools")
async def names(
    _caller: _Reader,
    catalogue: _Catalogue,
    exclude_dangerous: Annotated[bool, Query(description=_HARMLESS)] = False,  # noqa: FBT002 - of a query
) -> list[str]:
    """Return the names of the tools there are."""
    return [tool.name for tool in catalogue.discover(exclude_dangerous=exclude_dangerous)]


@router.post(
    "/tools/execute",
    operation_id="executeTool",
    summary="Execute a tool, and wait for its result",
    openapi_extra=body_of(
        ExecuteRequest.model_json_schema(),
        {"tool_name": "calculator", "parameters": {"expression": "42 + 58"}},
    ),
)
async def execute(
    *,
    caller: _Runner,
    catalogue: _Catalogue,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(description="The same key again is the same call.")] = None,
    cache_control: Annotated[str | None, Header(description="no-cache: execute it now.")] = None,
) -> ExecuteResponse:
    """Execute a tool once, alone in a sandbox.

    A tool that fails is an answer with `success: false`. A request that is wrong is refused: an unknown tool with
    404, arguments that do not fit with 400. With an `Idempotency-Key` that was sent before, the answer from then. A
    result from before, where the tool says that it may be used again, has an `Age`; `Cache-Control: no-cache` executes.
    """
    body = await read_model(request, ExecuteRequest)
    tool = tool_named(catalogue, body.tool_name)
    task = task_of({"tool": tool.name, "arguments": body.parameters}, caller.name)
    if idempotency_key is not None:
        task = with_key(task, idempotency_key)
    ended = await services_of(request).execution.execute(task, tool, caller, freshness_of(cache_control))
    if ended.age_seconds is not None:
        response.headers["Age"] = str(int(ended.age_seconds))
    if ended.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = f"/v1/tasks/{ended.task_uid}"
    if ended.reason is Reason.COMPLETED:
        return ExecuteResponse(success=True, output=ended.output)
    status = _REQUEST_REASONS.get(ended.reason) if ended.reason is not None else None
    if status is not None and ended.reason is not None:
        raise ProblemError(status, ended.reason.value, ended.message or ended.reason.value)
    return ExecuteResponse(success=False, error=f"{ended.reason}: {ended.message}".rstrip(": "))
