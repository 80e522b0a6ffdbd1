"""B4: gateways on one PostgreSQL share what each caller has left."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from corral_gateway.budgets.budget import Budget, Used
from corral_gateway.budgets.ledger import Charge, ExhaustedError, Hold, Ledger
from corral_gateway.storage.database import Database


async def test_B4_two_gateways_let_in_no_more_than_one_would(postgres_server: str) -> None:
    databases = [Database(postgres_server), Database(postgres_server)]
    try:
        await databases[0].migrate()
        ledgers = [Ledger(database) for database in databases]
        now = datetime.now(UTC)
        until = now + timedelta(seconds=60)
        budget = Budget(concurrentTasks=5, executionsPerDay=7)

        async def hold(number: int) -> str | None:
            uid = str(uuid.uuid4())
            try:
                await ledgers[number % 2].hold(Hold(uid, "someone"), 1, budget, now, until)
            except ExhaustedError:
                return None
            return uid

        held = [uid for uid in await asyncio.gather(*map(hold, range(24))) if uid is not None]
        assert len(held) == 5
        # Both see every end, as two gateways with one cluster do: each task is charged once.
        charges = [Charge(uid, "someone", 1, 250, held=True) for uid in held]
        await asyncio.gather(*(ledger.settle(charges, [], now) for ledger in ledgers))
        assert await ledgers[0].used("someone", now) == Used(0, 5, 1.25)
        again = [uid for uid in await asyncio.gather(*map(hold, range(24))) if uid is not None]
        assert len(again) == 2  # of the day's seven
    finally:
        for database in databases:
            await database.close()
