"""``GET /health`` and ``GET /ready``: for balancers and people. Open to everybody, so they say little."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from corral import __version__
from corral_gateway.openapi import refusal
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of

router = APIRouter(tags=["health"])

#: Whoever watches asks every few seconds by itself.
_RETRY_SECONDS = 5


class Health(BaseModel):
    """How the gateway is."""

    status: Literal["healthy", "degraded"]
    version: str
    timestamp: datetime
    detail: str | None = None


@router.get(
    "/health",
    operation_id="getHealth",
    summary="Whether the gateway serves",
    response_model_exclude_none=True,
)
async def health(request: Request) -> Health:
    """Answer while the gateway serves; `degraded` and why, while it takes nothing new in."""
    why = services_of(request).audit.failing
    detail = None if why is None else f"the audit cannot be written: {why}"
    status: Literal["healthy", "degraded"] = "healthy" if why is None else "degraded"
    return Health(status=status, version=__version__, timestamp=datetime.now(UTC), detail=detail)


class Ready(BaseModel):
    """The gateway takes work in."""

    status: Literal["ready"] = "ready"


@router.get(
    "/ready",
    operation_id="getReadiness",
    summary="Whether requests should be sent here",
    responses={503: refusal(HTTPStatus.SERVICE_UNAVAILABLE)},
)
async def ready(request: Request) -> Ready:
    """Answer 200 while the gateway takes work in, else 503 `NotReady` and why. `/health` says whether it lives."""
    why = services_of(request).readiness.why_not
    if why is not None:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "NotReady",
            why,
            remedy="send requests to another gateway meanwhile",
            retry_after_seconds=_RETRY_SECONDS,
        )
    return Ready()
