"""The one shape of every error: ``application/problem+json`` (RFC 9457) with a stable reason and what to do."""

import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from corral.api import ManifestError, Problem, format_path

_MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    path: str = Field(description="The field, such as spec.limits.memory; empty for the whole body.")
    message: str = Field(description="What is wrong with it.")
    remedy: str | None = Field(None, description="What to write instead.")


class ProblemBody(BaseModel):
    """An error."""

    type: str = Field(description="urn:corral:problem: and the reason.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    reason: str = Field(description="For programs; stays the same from version to version.")
    detail: str = Field(description="One sentence for people.")
    remedy: str | None = Field(None, description="What to do about it.")
    problems: list[FieldProblem] = Field([], description="Field by field, all that is wrong.")
    retry_after_seconds: int | None = Field(
        None, serialization_alias="retryAfter", description="Seconds after which it may succeed."
    )
    error: str | None = Field(None, description="For clients that read this one member: what was exceeded.")
    request_id: str = Field(
        serialization_alias="requestId", description="As in X-Request-ID and in the logs."
    )


def new_problem_body(status: HTTPStatus, reason: str, detail: str) -> ProblemBody:
    """Return the body of a refusal before there is a request."""
    return ProblemBody(
        type=f"urn:corral:problem:{reason}",
        title=status.phrase,
        status=status,
        reason=reason,
        detail=detail,
        request_id=str(uuid.uuid4()),
    )


class ProblemError(Exception):
    """A request is refused."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str,
        *,
        remedy: str | None = None,
        problems: Sequence[Problem] = (),
        retry_after_seconds: int | None = None,
        headers: dict[str, str] | None = None,
        error: str | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.remedy = remedy
        self.problems = tuple(problems)
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        self.error = error
        super().__init__(detail)


def problem_of_manifest(error: ManifestError) -> ProblemError:
    """Return the refusal of a task that cannot be read."""
    count = len(error.problems)
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "InvalidSpec",
        f"the manifest has {count} problem{'s'[: count > 1]}",
        problems=error.problems,
    )


def internal_problem() -> ProblemError:
    """Return what a caller is told of a fault in the gateway: nothing of what is inside."""
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "InternalError",
        "the gateway failed; its log has the reason under this request id",
    )


def problem_response(request: Request, error: ProblemError) -> JSONResponse:
    """Return the answer to a request that is refused."""
    context = request.scope["state"]["context"]
    context.reason = error.reason
    body = ProblemBody(
        type=f"urn:corral:problem:{error.reason}",
        title=error.status.phrase,
        status=error.status,
        reason=error.reason,
        detail=error.detail,
        remedy=error.remedy,
        problems=[
            FieldProblem(path=problem.path, message=problem.message, remedy=problem.remedy)
            for problem in error.problems
        ],
        retry_after_seconds=error.retry_after_seconds,
        error=error.error,
        request_id=context.id,
    )
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    wire = body.model_dump(mode="json", by_alias=True, exclude_none=True)
    return JSONResponse(wire, error.status, headers, _MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of an application one of these."""

    @app.exception_handler(ProblemError)
    async def refused(request: Request, error: ProblemError) -> JSONResponse:
        return problem_response(request, error)

    @app.exception_handler(ManifestError)
    async def malformed(request: Request, error: ManifestError) -> JSONResponse:
        return problem_response(request, problem_of_manifest(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_of_pydantic(one) for one in error.errors()]
        problem = ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", str(problems[0]), problems=problems
        )
        return problem_response(request, problem)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        reason = "".join(word.capitalize() for word in status.phrase.split())
        unknown = status == HTTPStatus.NOT_FOUND
        problem = ProblemError(
            status,
            reason,
            "there is no such path" if unknown else str(error.detail),
            remedy="/docs shows those that there are" if unknown else None,
            headers=dict(error.headers or {}),
        )
        return problem_response(request, problem)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _error: ClientDisconnect) -> JSONResponse:
        # Nobody reads it; it is here for the log and the metrics, and so that it is no fault.
        problem = ProblemError(HTTPStatus.BAD_REQUEST, "ClientDisconnected", "the body ended too early")
        return problem_response(request, problem)


def _of_pydantic(error: dict[str, Any]) -> Problem:
    """Return what FastAPI found, its path without the word for where in the request it stood."""
    location = tuple(error["loc"])[1:] or tuple(error["loc"])
    return Problem(format_path(location), str(error["msg"]))
