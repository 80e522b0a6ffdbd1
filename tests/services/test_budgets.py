"""B4: gateways on one PostgreSQL share what each caller has left."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from corral_gateway.budgets.budget import Budget, Used
from corral_gateway.budgets.ledger import Charge, ExhaustedError, Hold, Ledger
from corral_gateway.budgets.stored import NoRoomError, StoredBytes, left_key
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


async def test_B4_two_gateways_keep_no_more_of_a_caller_than_one_would(postgres_server: str) -> None:
    databases = [Database(postgres_server), Database(postgres_server)]
    try:
        await databases[0].migrate()
        counts = [StoredBytes(database) for database in databases]
        caller, now = str(uuid.uuid4()), datetime.now(UTC)

        async def take(number: int) -> str | None:
            uid = str(uuid.uuid4())
            try:
                await counts[number % 2].take(uid, caller, 10, 55, now)
            except NoRoomError:
                return None
            return uid

        taken = [uid for uid in await asyncio.gather(*map(take, range(24))) if uid is not None]
        assert len(taken) == 5
        assert await counts[1].used(caller) == 50
        # Both remove the same tasks, as two gateways that sweep at once do: each is given back once.
        await counts[0].give_back(taken[0], 4)
        assert await counts[1].used(caller) == 46
        await asyncio.gather(*(count.forget(taken[:2]) for count in counts))
        assert await counts[0].used(caller) == 30
        # What both see in a cluster is counted once, and not again when it is removed by one of them.
        left = left_key(taken[2])
        await asyncio.gather(*(count.note(left, caller, 7, now) for count in counts))
        assert await counts[1].used(caller) == 37
        await counts[0].empty([taken[2], left])
        await asyncio.gather(*(count.note(left, caller, 7, now) for count in counts))
        assert await counts[1].used(caller) == 20
        await counts[1].move(taken[3], taken[2], now)
        assert await counts[0].used(caller) == 20
        await counts[0].forget([taken[2], left])
        assert await counts[1].used(caller) == 10
        later = now + timedelta(seconds=1)
        assert taken[4] in await counts[0].counted_before(later)
        assert {taken[4]} <= set(await counts[0].without_task(later, 1000))
    finally:
        for database in databases:
            await database.close()
