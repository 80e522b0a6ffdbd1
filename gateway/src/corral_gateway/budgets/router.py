"""``/v1/budget``."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from corral_gateway.budgets.budget import BudgetName
from corral_gateway.http_door import allowed
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.services import services_of

router = APIRouter(prefix="/v1/budget", tags=["budget"])

_Reader = Annotated[Caller, Depends(allowed(Scope.TASKS_READ))]


class BudgetStanding(BaseModel):
    """One budget of a caller."""

    name: BudgetName
    used: float = Field(description="Tasks that run or wait, executions or CPU seconds today, or bytes.")
    limit: float | None = Field(None, description="Absent: nothing bounds it.")


class BudgetReport(BaseModel):
    """How a caller stands."""

    caller: str
    resets_at: datetime = Field(
        serialization_alias="resetsAt", description="When a day ends, for what is counted by day."
    )
    budgets: list[BudgetStanding]


@router.get(
    "", operation_id="getBudget", summary="How much is used and left", response_model_exclude_none=True
)
async def standing(caller: _Reader, request: Request) -> BudgetReport:
    """Tell callers what they may use, and what they have used today."""
    budgets = services_of(request).budgets
    used, budget = await budgets.used(caller), budgets.budget(caller)
    found = [BudgetStanding(name=name, used=used.of(name), limit=budget.limit(name)) for name in BudgetName]
    return BudgetReport(caller=caller.name, resets_at=budgets.day_ends(), budgets=found)
