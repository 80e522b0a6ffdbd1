"""What a caller may use, what they have used, and whether more is left. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from corral_gateway.identity.roles import Role


class BudgetName(StrEnum):
    """What is counted."""

    CONCURRENT_TASKS = "concurrentTasks"
    EXECUTIONS_PER_DAY = "executionsPerDay"
    CPU_SECONDS_PER_DAY = "cpuSecondsPerDay"
    STORED_BYTES = "storedBytes"


class Budget(BaseModel):
    """What a caller may use. A field that is absent bounds nothing."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    concurrent_tasks: Annotated[int, Field(ge=0)] | None = None
    executions_per_day: Annotated[int, Field(ge=0)] | None = None
    cpu_seconds_per_day: Annotated[float, Field(ge=0)] | None = None
    #: In the artifact store; held against it where something comes to it, see ``tasks.room``.
    stored_bytes: Annotated[int, Field(ge=0)] | None = None

    @property
    def bounds_no_tasks(self) -> bool:
        """A task has to be held against nothing of it before it is taken in."""
        return all(self.limit(name) is None for name in _OF_TASKS)

    def limit(self, name: BudgetName) -> float | None:
        """Return one of them."""
        match name:
            case BudgetName.CONCURRENT_TASKS:
                return self.concurrent_tasks
            case BudgetName.EXECUTIONS_PER_DAY:
                return self.executions_per_day
            case BudgetName.CPU_SECONDS_PER_DAY:
                return self.cpu_seconds_per_day
            case BudgetName.STORED_BYTES:
                return self.stored_bytes


_OF_TASKS = tuple(name for name in BudgetName if name is not BudgetName.STORED_BYTES)


@dataclass(frozen=True, slots=True)
class Used:
    """What a caller uses now, and has used today."""

    concurrent_tasks: int = 0
    executions: int = 0
    cpu_seconds: float = 0.0
    stored_bytes: int = 0

    def of(self, name: BudgetName) -> float:
        """Return one of them."""
        match name:
            case BudgetName.CONCURRENT_TASKS:
                return self.concurrent_tasks
            case BudgetName.EXECUTIONS_PER_DAY:
                return self.executions
            case BudgetName.CPU_SECONDS_PER_DAY:
                return self.cpu_seconds
            case BudgetName.STORED_BYTES:
                return self.stored_bytes


def exhausted(budget: Budget, used: Used, executions: int) -> BudgetName | None:
    """Return what has not enough left for one more task of so many executions; None: it may run.

    What a task will use of the CPU nobody knows before, so it may begin while anything is left.
    """
    wanted = {BudgetName.CONCURRENT_TASKS: 1, BudgetName.EXECUTIONS_PER_DAY: executions}
    for name in _OF_TASKS:
        limit = budget.limit(name)
        if limit is None:
            continue
        if name is BudgetName.CPU_SECONDS_PER_DAY:
            if used.cpu_seconds >= limit:
                return name
        elif used.of(name) + wanted[name] > limit:
            return name
    return None


def budget_of(caller: str, role: Role | None, default: Budget, overrides: Mapping[str, Budget]) -> Budget:
    """Return a caller's budget: their own, that of their role, or everybody's; a field that is absent falls through."""
    found = default
    for name in (f"role:{role}" if role is not None else "", caller):
        if name in overrides:
            found = found.model_copy(update=overrides[name].model_dump(exclude_unset=True))
    return found


def next_day(now: datetime) -> datetime:
    """Return when a new day begins, in UTC."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
