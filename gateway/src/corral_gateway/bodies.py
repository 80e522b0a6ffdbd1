"""The bodies of requests: read after the caller is known, and no further than the limit.

FastAPI itself would read and parse a body before any dependency runs, so for anybody.
"""

import json
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from corral.api import problems_in
from corral_gateway.audit.records import RequestInput
from corral_gateway.http_door import context_of
from corral_gateway.json_shape import excess_of
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of

_Model = TypeVar("_Model", bound=BaseModel)


async def read_json(request: Request) -> Any:
    """Return the JSON of a request's body.

    Raises:
        ProblemError: it is too large, or no JSON.
    """
    data = await _read(request, services_of(request).settings.max_request_size)
    context_of(request).input = RequestInput.of(data)
    return parse_json(data)


def parse_json(data: bytes | str) -> Any:
    """Return what JSON says.

    Raises:
        ProblemError: it is none.
    """
    excess = excess_of(data.encode(errors="replace") if isinstance(data, str) else data)
    if excess is not None:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "MalformedBody", f"the body {excess}", remedy="send it in smaller parts"
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "MalformedBody", f"the body is no JSON: {why}", remedy="send UTF-8 JSON"
        ) from None


async def read_model(request: Request, model: type[_Model]) -> _Model:
    """Return a request's body as a model.

    Raises:
        ProblemError: it is none; every wrong field is named.
    """
    body = await read_json(request)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = problems_in(error, model)
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", str(problems[0]), problems=problems
        ) from None


def body_of(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    """Return what OpenAPI is told of a body that a route reads itself, with one that runs as it stands."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


async def _read(request: Request, max_bytes: int) -> bytes:
    # The server has seen to it that this is a number.
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise too_large(max_bytes)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise too_large(max_bytes)
    return bytes(data)


def too_large(max_bytes: int, setting: str = "MAX_REQUEST_SIZE") -> ProblemError:
    """Return the refusal of a body that has more bytes than a setting allows."""
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "RequestTooLarge",
        f"the body has more than {max_bytes} bytes",
        remedy=f"send less, or have {setting} raised",
        headers={"Connection": "close"},
    )
