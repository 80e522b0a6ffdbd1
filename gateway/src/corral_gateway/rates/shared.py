"""Counts that gateways share, in Valkey or Redis.

Through `limits` with coredis: its client sends what waits on one connection together, connects again by itself after
an outage, and comes with the library; redis-py and valkey-py would be a second client for the same.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, cast

from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from corral_gateway.rates.windows import Exceeded, Limit, Standing

#: A store that takes longer is down: a request must not wait for a count.
_PATIENCE_SECONDS = 0.5
_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}


class StoreDownError(Exception):
    """The store does not answer. What it counted of the request, nobody knows."""


class SharedCounts:
    """Counts in one store."""

    def __init__(self, url: str) -> None:
        """Prepare; the first count connects.

        Raises:
            ValueError: no URL of a store.
        """
        self._storage = RedisStorage(
            store_uri(url), wrap_exceptions=False, implementation="coredis", key_prefix="corral"
        )
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def hit(self, limits: Sequence[Limit]) -> Standing | Exceeded:
        """Do as ``Windows.hit`` does, over all gateways; one limit after another, so the widest one last.

        Raises:
            StoreDownError: it does not answer.
        """
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._hit(limits)
        # The client raises errors of sockets, of time and of its own; of each it is the same that follows.
        except Exception as error:
            raise StoreDownError(f"{type(error).__name__}: {error}") from error

    async def _hit(self, limits: Sequence[Limit]) -> Standing | Exceeded:
        for limit in limits:
            if not await self._limiter.hit(limit.rate, limit.kind, limit.key):
                return Exceeded(limit, await self._standing(limit))
        standings = await asyncio.gather(*map(self._standing, limits))
        return min(standings, key=lambda standing: standing.remaining)

    async def _standing(self, limit: Limit) -> Standing:
        stats = await self._limiter.get_window_stats(limit.rate, limit.kind, limit.key)
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        return Standing(limit.rate.amount, max(0, stats.remaining), reset)

    def close(self) -> None:
        """Give up its connections."""
        bridge = cast("Any", self._storage.bridge)  # the library has no way of its own to close one
        bridge.storage.connection_pool.disconnect()


def store_uri(url: str) -> str:
    """Return the library's name of a store.

    Raises:
        ValueError: it is none.
    """
    scheme, mark, rest = url.partition("://")
    if scheme not in _SCHEMES or not mark or not rest.strip("/"):
        # The URL may hold a password: it is not repeated.
        raise ValueError("expected redis://HOST:PORT/0, or rediss://, valkey://, valkeys://")
    return f"async+{_SCHEMES[scheme]}://{rest}"
