"""``GET /health``: for load balancers and people. Open to everybody, so it says little."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from corral import __version__

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """How the gateway is."""

    status: Literal["healthy"]
    version: str
    timestamp: datetime


@router.get("/health", summary="Whether the gateway serves")
async def health() -> Health:
    """Answer while the gateway serves."""
    return Health(status="healthy", version=__version__, timestamp=datetime.now(UTC))
