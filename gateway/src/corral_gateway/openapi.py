"""What OpenAPI is told beyond what the routes say: how each can be refused, and where a task's id leads. Pure."""

from http import HTTPStatus
from typing import Any

from corral_gateway.manifests import TEMPLATE, reference
from corral_gateway.problems import ProblemBody

_NAME = ProblemBody.__name__
_MEDIA_TYPE = "application/problem+json"
#: What any request can be told, before it is known what it is for.
_EVERY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)
#: What any request that needs a credential can be told.
_ANY = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
#: And one with a body.
_BODY = (
    HTTPStatus.NOT_FOUND,  # a tool that it names
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_IN_PATHS = {
    "uid": "The task's id: its `metadata.uid`.",
    "path": "The file's path in the workspace.",
    "what": "`stdout`, `stderr` or `result`.",
    "name": "The tool's name.",
}
_HEADERS: dict[HTTPStatus, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
    },
}


def declare_refusals(schema: dict[str, Any]) -> None:
    """Add to each operation of an OpenAPI document that needs a credential how it can be refused.

    What a route declares itself stays as it is, but for FastAPI's own 422, which nobody here answers.
    """
    shapes = ProblemBody.model_json_schema(mode="serialization", ref_template=TEMPLATE)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(shapes.pop("$defs", {}))
    schemas[_NAME] = shapes
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for item in schema["paths"].values():
        for method, operation in item.items():
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422")):
                del responses["422"]
            for status in _statuses(method, operation):
                responses.setdefault(str(status.value), refusal(status))


def describe_paths(schema: dict[str, Any]) -> None:
    """Say what the parameters of paths are, which mean the same wherever they stand."""
    for item in schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["description"] = _IN_PATHS[parameter["name"]]


def link_tasks(schema: dict[str, Any]) -> None:
    """Say that the id of a task that was made is that of the other routes on tasks."""
    made = schema["paths"]["/v1/tasks"]["post"]["responses"]
    links = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {"uid": "$response.body#/metadata/uid"},
        }
        for path, item in schema["paths"].items()
        for operation in item.values()
        if path.startswith("/v1/tasks/{uid}")
    }
    for status in ("201", "202"):
        if status in made:
            made[status]["links"] = links


def _statuses(method: str, operation: dict[str, Any]) -> list[HTTPStatus]:
    parameters = operation.get("parameters", [])
    found = [*_EVERY, *(_ANY if operation.get("security") else ())]
    if parameters:
        found.append(HTTPStatus.UNPROCESSABLE_ENTITY)
    if any(parameter["in"] == "path" for parameter in parameters):
        found.append(HTTPStatus.NOT_FOUND)
    if method == "delete":
        found.append(HTTPStatus.CONFLICT)
    if "requestBody" in operation:
        found += _BODY
    return found


def refusal(status: HTTPStatus) -> dict[str, Any]:
    """Return what a route declares of a refusal that not every route like it has."""
    return {
        "description": status.phrase,
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {_MEDIA_TYPE: {"schema": reference(ProblemBody)}},
    }
