"""Budgets as a ``Guard`` and a ``TaskObserver``."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from corral.api import AgentTask, Tool
from corral_gateway.budgets.budget import Budget, BudgetName, Used, budget_of, next_day
from corral_gateway.budgets.ledger import Charge, ExhaustedError, Hold, Ledger
from corral_gateway.budgets.stored import NoRoomError, StoredBytes
from corral_gateway.identity.caller import Caller
from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.stamps import submission_of

log = logging.getLogger(__name__)

#: A gateway says so often of what it holds that it is still there; what nobody spoke for in three times that is
#: looked at: its gateway ended, or the task never came to be.
_RENEW_SECONDS = 30.0
_HELD_SECONDS = 90.0
#: So long what tasks used is gathered before it is written. A crash may lose it where nothing was held.
_GATHER_SECONDS = 0.5
#: When a task of the same caller may end, nobody can say.
_CONCURRENT_RETRY_SECONDS = 5
#: Sums of days that are over are of no use but to look at.
_KEEP_DAYS = 90


class Tasks(Protocol):
    """Of ``Executor``, what it takes to know whether a task is still there."""

    async def submitted(self, uid: str, caller: str) -> AgentTask | None:
        """Return the task that was let in under an id, as it stands."""
        ...


@dataclass(frozen=True, slots=True)
class _Mine:
    """A task that this gateway let through."""

    #: Something of its caller's budget is held for it.
    held: bool
    #: What its caller may keep; None: any number of bytes.
    stored_bytes: int | None


class Budgets:
    """What each caller may use, and does."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._default = default_budget(settings)
        self._overrides: Mapping[str, Budget] = settings.budgets
        self._ledger = Ledger(database)
        #: What each caller keeps in the artifact store.
        self.stored = StoredBytes(database)
        self._metrics = metrics
        self._now = now
        #: Tasks that this gateway let through and that have not ended.
        self._mine: dict[str, _Mine] = {}
        self._charges: list[Charge] = []
        self._given_back: list[str] = []
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._work: list[asyncio.Task[None]] = []

    async def start(self, tasks: Tasks) -> None:
        """Settle what an earlier process left, and look after what is held from then on."""
        try:
            await self._look_after(tasks, await self._ledger.holds())
        # A cluster that does not answer yet must not keep the gateway from serving; it is asked again.
        except Exception:
            log.exception("what is held of budgets could not be looked after; again soon")
        await self._ledger.forget_days_before(self._now(), _KEEP_DAYS)
        loop = asyncio.get_running_loop()
        self._work = [
            loop.create_task(self._settle_for_ever(), name="budgets are settled"),
            loop.create_task(self._look_after_for_ever(tasks), name="budgets are looked after"),
        ]

    async def close(self) -> None:
        """Write down what is not yet."""
        # None of them is cancelled: a transaction that is, half-way, can keep the database locked.
        self._closing.set()
        self._changed.set()
        await asyncio.gather(*self._work)
        await self._settle()

    async def admit(self, task: AgentTask, _tools: Sequence[Tool], caller: Caller) -> None:
        """Hold what a task needs; see ``Guard``."""
        uid, budget = task.metadata.uid or "", self.budget(caller)
        if not budget.bounds_no_tasks:
            # Who was told that their task ended may send the next at once.
            await self._settle()
            now = self._now()
            until = now + timedelta(seconds=_HELD_SECONDS)
            try:
                holding = self._ledger.hold(
                    Hold(uid, caller.name), max(1, len(task.spec.steps)), budget, now, until
                )
                await asyncio.shield(holding)
            except ExhaustedError as error:
                self._metrics.budget_refusals.labels(error.name).inc()
                raise _refusal(error, budget, now) from None
        self._mine[uid] = _Mine(not budget.bounds_no_tasks, budget.stored_bytes)

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:  # noqa: ARG002 - see ``Guard``
        """Give back what was held; see ``Guard``."""
        mine = self._mine.pop(task.metadata.uid or "", None)
        if mine is not None and mine.held:
            self._given_back.append(task.metadata.uid or "")
            self._changed.set()

    def ended(self, task: AgentTask, caller: str, seconds: float) -> None:  # noqa: ARG002 - see ``TaskObserver``
        """Charge what a task has used; see ``TaskObserver``."""
        # Of a task that another gateway let through, only what is held for it, if anything, says whose it is.
        mine = self._mine.pop(submission_of(task), None)
        self._charges.append(_charge(task, caller, held=mine is None or mine.held))
        self._changed.set()

    def budget(self, caller: Caller) -> Budget:
        """Return what a caller may use."""
        return budget_of(caller.name, caller.role, self._default, self._overrides)

    async def store(self, uid: str, caller: str, size: int) -> None:
        """Count bytes of a task that are about to be kept in the artifact store.

        Raises:
            NoRoomError: it would be more than its caller may keep.
            SQLAlchemyError: the database does not count.
        """
        mine = self._mine.get(uid)
        if mine is not None:
            limit = mine.stored_bytes
        else:  # let through before a restart: nobody knows its caller's role any more
            limit = budget_of(caller, None, self._default, self._overrides).stored_bytes
        try:
            await self.stored.take(uid, caller, size, limit, self._now())
        except NoRoomError:
            self._metrics.budget_refusals.labels(BudgetName.STORED_BYTES).inc()
            raise

    async def used(self, caller: Caller) -> Used:
        """Return what a caller uses. What runs without a bound is not counted as running."""
        await self._settle()
        used = await self._ledger.used(caller.name, self._now())
        return replace(used, stored_bytes=await self.stored.used(caller.name))

    def day_ends(self) -> datetime:
        """Return when the next day begins."""
        return next_day(self._now())

    async def _settle(self) -> None:
        """Write down what tasks used; all that was told before is written when this returns."""
        # Whoever waits here may be cancelled; see ``close``.
        await asyncio.shield(self._write())

    async def _write(self) -> None:
        async with self._writing:
            if not self._charges and not self._given_back:
                return
            charges, given_back = self._charges, self._given_back
            self._charges, self._given_back = [], []
            try:
                await self._ledger.settle(charges, given_back, self._now())
            except BaseException:
                self._charges, self._given_back = charges + self._charges, given_back + self._given_back
                raise

    async def _settle_for_ever(self) -> None:
        while not self._closing.is_set():
            await self._changed.wait()
            # Many at once in one transaction, and none in the way of tasks: whoever needs the sums writes them first.
            await self._pause(_GATHER_SECONDS)
            self._changed.clear()
            try:
                await self._settle()
            except SQLAlchemyError:
                log.exception("what tasks used could not be written down; again soon")
                self._changed.set()
                await self._pause(1)

    async def _look_after_for_ever(self, tasks: Tasks) -> None:
        while not await self._pause(_RENEW_SECONDS):
            try:
                until = self._now() + timedelta(seconds=_HELD_SECONDS)
                await self._ledger.renew([uid for uid, mine in self._mine.items() if mine.held], until)
                await self._look_after(tasks, await self._ledger.holds(self._now()))
            # The store of tasks may be a database or a cluster; whatever it raises, the next round tries again.
            except Exception:
                log.exception("what is held of budgets could not be looked after; again soon")

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether the end has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return self._closing.is_set()

    async def _look_after(self, tasks: Tasks, holds: Sequence[Hold]) -> None:
        """Settle what is held for tasks that have ended or never were, and hold on to the others."""
        now = self._now()
        late = {hold.uid for hold in await self._ledger.holds(now)}
        charges, gone, there = [], [], []
        for hold in holds:
            if hold.uid in self._mine:
                continue
            task = await tasks.submitted(hold.uid, hold.caller)
            if task is not None and task.reason is not None:
                charges.append(_charge(task, hold.caller, held=True))
            elif task is not None:
                there.append(hold.uid)
            elif hold.uid in late:  # else another gateway may be about to make it
                gone.append(hold.uid)
        await self._ledger.settle(charges, gone, now)
        await self._ledger.renew(there, now + timedelta(seconds=_HELD_SECONDS))


def default_budget(settings: Settings) -> Budget:
    """Return what everybody may use who has no budget of their own."""
    return Budget(
        concurrentTasks=settings.budget_concurrent_tasks or None,
        executionsPerDay=settings.budget_executions or None,
        cpuSecondsPerDay=settings.budget_cpu_seconds or None,
        storedBytes=settings.budget_stored_bytes or None,
    )


def _charge(task: AgentTask, caller: str, *, held: bool) -> Charge:
    # What never ran used nothing.
    usages = [execution.usage for execution in task.executions if execution.usage is not None]
    cpu_seconds = sum(usage.cpu_seconds or 0 for usage in usages)
    return Charge(submission_of(task), caller, len(usages), round(1000 * cpu_seconds), held)


def _refusal(error: ExhaustedError, budget: Budget, now: datetime) -> ProblemError:
    ends = next_day(now)
    at_once = error.name is BudgetName.CONCURRENT_TASKS
    wait = _CONCURRENT_RETRY_SECONDS if at_once else math.ceil((ends - now).total_seconds())
    until = "until one of them has ended" if at_once else f"until {ends:%Y-%m-%dT%H:%M:%SZ}"
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "BudgetExhausted",
        f"{error.name}: {error.used.of(error.name):g} of {budget.limit(error.name):g} are used, {until}",
        remedy="wait as Retry-After says, or have the budget raised; GET /v1/budget shows how you stand",
        retry_after_seconds=wait,
    )
