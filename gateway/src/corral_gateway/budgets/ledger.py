"""What callers use, in the database: it survives restarts, and gateways on one PostgreSQL share it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from corral_gateway.budgets.budget import Budget, BudgetName, Used, exhausted
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import BudgetDayRow, BudgetHoldRow

#: So many in one statement; databases bound how many parameters there may be.
_AT_ONCE = 500


class ExhaustedError(Exception):
    """A budget has not enough left. Nothing was kept."""

    def __init__(self, name: BudgetName, used: Used) -> None:
        self.name = name
        self.used = used
        super().__init__(name)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held of a caller's budget for a task that has not ended."""

    uid: str
    caller: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What a task has used."""

    uid: str
    caller: str
    executions: int
    cpu_milliseconds: int
    #: It was held before it ran; where another gateway saw the end first, that one has charged it.
    held: bool


class Ledger:
    """Holds and sums."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, hold: Hold, executions: int, budget: Budget, now: datetime, until: datetime) -> None:
        """Take what a task needs from its caller's budget.

        Args:
            hold: whose, for which task.
            executions: that it will be at most.
            budget: what the caller may.
            now: whose day it counts for.
            until: after that, who looks after holds asks whether the task is still there.

        Raises:
            ExhaustedError: not enough is left.
        """
        day = _day(now)
        async with self._database.writing() as session:
            # This locks the caller's row: of two that come at once, to whichever gateway, the second sees the first.
            await _add(session, hold.caller, day, executions, 0)
            query = select(BudgetDayRow).where(BudgetDayRow.caller == hold.caller, BudgetDayRow.day == day)
            sums = (await session.scalars(query)).one()
            used = Used(
                await _held(session, hold.caller), sums.executions - executions, sums.cpu_milliseconds / 1000
            )
            name = exhausted(budget, used, executions)
            if name is not None:
                raise ExhaustedError(name, used)
            session.add(
                BudgetHoldRow(
                    task_uid=hold.uid, caller=hold.caller, day=day, executions=executions, held_until=until
                )
            )

    async def settle(self, charges: Sequence[Charge], given_back: Sequence[str], now: datetime) -> None:
        """Charge tasks that ended, and give back what was held for those that never began. All, or nothing."""
        async with self._database.writing() as session:
            for uid in given_back:
                held = await _let_go(session, uid)
                if held is not None:
                    await _add(session, held.caller, held.day, -held.executions, 0)
            # In one order everywhere, so that gateways do not wait for each other.
            for charge in sorted(charges, key=lambda charge: (charge.caller, charge.uid)):
                held = await _let_go(session, charge.uid) if charge.held else None
                if held is not None:
                    await _add(session, held.caller, held.day, charge.executions - held.executions, 0)
                    await _add(session, held.caller, _day(now), 0, charge.cpu_milliseconds)
            loose = [charge for charge in charges if not charge.held]
            for caller in sorted({charge.caller for charge in loose}):
                theirs = [charge for charge in loose if charge.caller == caller]
                executions = sum(charge.executions for charge in theirs)
                cpu_milliseconds = sum(charge.cpu_milliseconds for charge in theirs)
                await _add(session, caller, _day(now), executions, cpu_milliseconds)

    async def used(self, caller: str, now: datetime) -> Used:
        """Return what a caller uses, and has used today."""
        async with self._database.reading() as session:
            sums = await session.get(BudgetDayRow, (caller, _day(now)))
            running = await _held(session, caller)
        return Used(running) if sums is None else Used(running, sums.executions, sums.cpu_milliseconds / 1000)

    async def holds(self, until: datetime | None = None) -> list[Hold]:
        """Return what is held; with a time, what is held no longer than until then."""
        query = select(BudgetHoldRow.task_uid, BudgetHoldRow.caller)
        if until is not None:
            query = query.where(BudgetHoldRow.held_until <= until)
        async with self._database.reading() as session:
            return [Hold(uid, caller) for uid, caller in await session.execute(query)]

    async def renew(self, uids: Sequence[str], until: datetime) -> None:
        """Hold on."""
        for first in range(0, len(uids), _AT_ONCE):
            async with self._database.writing() as session:
                await session.execute(
                    update(BudgetHoldRow)
                    .where(BudgetHoldRow.task_uid.in_(uids[first : first + _AT_ONCE]))
                    .values(held_until=until)
                )

    async def forget_days_before(self, now: datetime, days: int) -> None:
        """Remove the sums of days that are long over."""
        oldest = date.fromordinal(_day(now).toordinal() - days)
        async with self._database.writing() as session:
            await session.execute(delete(BudgetDayRow).where(BudgetDayRow.day < oldest))


def _day(now: datetime) -> date:
    return now.astimezone(UTC).date()


async def _held(session: AsyncSession, caller: str) -> int:
    query = select(func.count()).select_from(BudgetHoldRow).where(BudgetHoldRow.caller == caller)
    return await session.scalar(query) or 0


async def _let_go(session: AsyncSession, uid: str) -> BudgetHoldRow | None:
    gone = delete(BudgetHoldRow).where(BudgetHoldRow.task_uid == uid).returning(BudgetHoldRow)
    return (await session.scalars(gone)).one_or_none()


async def _add(session: AsyncSession, caller: str, day: date, executions: int, cpu_milliseconds: int) -> None:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(BudgetDayRow).values(
        caller=caller, day=day, executions=executions, cpu_milliseconds=cpu_milliseconds
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["caller", "day"],
            set_={
                "executions": BudgetDayRow.executions + statement.excluded.executions,
                "cpu_milliseconds": BudgetDayRow.cpu_milliseconds + statement.excluded.cpu_milliseconds,
            },
        )
    )
