"""Registers tools: ``POST``, ``PUT`` and ``DELETE`` below ``/v1/tools``."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from corral.api import ManifestError, Problem, Reason, Tool, parse_resource
from corral.catalogue import normalise
from corral_gateway.bodies import body_of, read_json
from corral_gateway.http_door import allowed
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.manifests import ToolManifest, reference
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of
from corral_gateway.tasks.stamps import OWN_ANNOTATIONS, OWN_LABELS, without
from corral_gateway.tools.registry import (
    ToolChangedError,
    ToolManagedElsewhereError,
    ToolRegistry,
    ToolTakenError,
    TooManyToolsError,
    TooManyVersionsError,
)

router = APIRouter(prefix="/v1/tools", tags=["tools"])

_Writer = Annotated[Caller, Depends(allowed(Scope.TOOLS_WRITE))]
_TOOL_BODY = body_of(
    reference(Tool),
    {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "greet"},
        "spec": {
            "description": "Greet somebody.",
            "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}},
            "run": {"function": {"code": "def main(name='you'):\n    return f'Hello, {name}'"}},
        },
    },
)


async def _registry(request: Request) -> ToolRegistry:
    registry = services_of(request).registry
    if registry is None:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            Reason.UNSUPPORTED.value,
            "nobody registers tools through this gateway",
            remedy="kubectl apply the Tool in your namespace, or have an admin set CORRAL_TOOL_REGISTRATION=true",
        )
    return registry


_Registry = Annotated[ToolRegistry, Depends(_registry)]


class Change(BaseModel):
    """What was done to a tool once."""

    number: int = Field(description="Grows from change to change, of whichever tool.")
    caller: str = Field(description="Who did it.")
    at: datetime
    tool: ToolManifest | None = Field(description="The tool from then on; null: it was deleted.")


class ChangeList(BaseModel):
    """What was done to a tool, newest first."""

    items: list[Change]


@router.post(
    "",
    operation_id="registerTool",
    status_code=HTTPStatus.CREATED,
    summary="Register a tool",
    openapi_extra=_TOOL_BODY,
)
async def create(caller: _Writer, registry: _Registry, request: Request, response: Response) -> ToolManifest:
    """Register a Tool manifest for all callers, in a cluster for those of the caller's namespace.

    A name that is taken is a conflict; `PUT` replaces.
    """
    tool = await _tool(request)
    with _refusals():
        made = await registry.create(tool, caller)
    response.headers["Location"] = f"/v1/tools/{tool.name}"
    return made.to_wire()


@router.put("/{name}", operation_id="putTool", summary="Register or replace a tool", openapi_extra=_TOOL_BODY)
async def put(
    caller: _Writer, registry: _Registry, request: Request, response: Response, name: str
) -> ToolManifest:
    """Register a Tool manifest under its name, in place of one that is there: 201 if it is new, else 200.

    What runs by then goes on with the tool that it began with. In a cluster a `metadata.resourceVersion` that came with
    the tool replaces that version alone.
    """
    tool = await _tool(request)
    if normalise(tool.name) != normalise(name):
        problem = Problem("metadata.name", f"{tool.name!r} is not the name of the path, {name[:64]!r}")
        raise ManifestError([problem])
    with _refusals():
        made, is_new = await registry.put(tool, caller)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return made.to_wire()


@router.delete(
    "/{name}", operation_id="deleteTool", status_code=HTTPStatus.NO_CONTENT, summary="Take a tool out"
)
async def delete(caller: _Writer, registry: _Registry, name: str) -> None:
    """Take a registered tool out. What is known of its history stays for some time."""
    with _refusals():
        there = await registry.delete(name, caller)
    if not there:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, Reason.TOOL_NOT_FOUND.value, f"no tool {name[:64]} is registered"
        )


@router.get("/{name}/history", operation_id="listToolChanges", summary="Show what was done to a tool")
async def history(caller: _Writer, registry: _Registry, name: str) -> ChangeList:
    """Return the last changes, newest first, a hundred at most; also of a tool that is gone."""
    changes = await registry.history(name, caller)
    if not changes:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, Reason.TOOL_NOT_FOUND.value, f"no tool {name[:64]} was ever registered"
        )
    return ChangeList(
        items=[
            Change(
                number=change.number,
                caller=change.caller,
                at=change.at,
                tool=None if change.tool is None else change.tool.to_wire(),
            )
            for change in changes
        ]
    )


async def _tool(request: Request) -> Tool:
    """Return the tool of a request, without what only a cluster or the gateway sets."""
    body = await read_json(request)
    # Its schemas are held against the meta-schema, which can take a tenth of a second.
    resource = await asyncio.to_thread(parse_resource, body)
    if not isinstance(resource, Tool):
        raise ManifestError([Problem("kind", f"expected Tool, found {resource.kind}")])
    given = resource.metadata
    if given.name is None:
        raise ManifestError([Problem("metadata.name", "a tool needs a name")])
    command = resource.spec.run.command
    if command is not None and command.image is not None and not services_of(request).runs_images:
        message = f"tool {given.name} runs in the image {command.image}, and this backend has no images"
        field = "spec.run.command.image"
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            Reason.UNSUPPORTED.value,
            message,
            remedy="use the Docker or Kubernetes backend",
            problems=[Problem(field, message)],
        )
    metadata = type(given)(
        name=given.name,
        labels=without(OWN_LABELS, given.labels),
        annotations=without(OWN_ANNOTATIONS, given.annotations),
        resource_version=given.resource_version,
    )
    return resource.model_copy(update={"metadata": metadata})


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ToolTakenError as error:
        if error.builtin:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "ToolBuiltIn",
                f"{error.name} ships with Corral, and nobody replaces it or takes it out",
                remedy="give yours another name",
            ) from None
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "ToolExists",
            f"there is a tool {error.name} already",
            remedy=f"replace it with PUT /v1/tools/{error.name}, or give yours another name",
        ) from None
    except ToolManagedElsewhereError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "ToolManagedElsewhere",
            f"{error.name} was not registered here: {error.manager} manages it",
            remedy="change it where it comes from, have an admin do it here, or give yours another name",
        ) from None
    except ToolChangedError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "ToolChanged",
            f"{error.name} is in another version by now",
            remedy=f"read it again with GET /v1/tools/{error.name}, and send what you want on top of that",
        ) from None
    except TooManyVersionsError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "TooManyVersions",
            f"{error.versions} versions of {error.name} are kept for tasks that have not ended",
            remedy="try again when they have, or cancel them",
        ) from None
    except TooManyToolsError as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "TooManyTools",
            f"{error.limit} tools {'of yours ' if error.own else ''}are registered, as many as may be",
            remedy="delete some" + (", or have CORRAL_TOOLS_CALLER raised" if error.own else ""),
        ) from None
