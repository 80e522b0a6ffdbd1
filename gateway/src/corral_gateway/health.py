"""``GET /health``: for load balancers and people. Open to everybody, so it says little."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from corral import __version__
from corral_gateway.services import services_of

router = APIRouter(tags=["health"])


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
