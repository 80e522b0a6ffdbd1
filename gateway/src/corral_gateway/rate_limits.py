"""How often: over all callers, each caller, each tool. Counted in this process."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from corral.api import AgentTask, Tool
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands with the limit that is nearest."""

    limit: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """What a caller is told with every answer."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }


class RateLimits:
    """Every limit of one gateway."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._everybody = parse(settings.rate_limit_global)
        self._caller = parse(settings.rate_limit_caller)

    async def request(self, caller: str) -> Standing:
        """Count a request.

        Raises:
            ProblemError: it is one too many.
        """
        return await self._count(
            [("all callers", self._everybody, ("everybody",)), ("you", self._caller, ("caller", caller))]
        )

    async def admit(self, _task: AgentTask, tools: Sequence[Tool], _caller: Caller) -> None:
        """Count a call of each tool; see ``Guard``."""
        for tool in tools:
            limit = tool.spec.rate_limit
            if limit is not None:
                item = parse(f"{limit.requests_per_minute}/minute")
                await self._count([(f"the tool {tool.name}", item, ("tool", tool.name))])

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``: an attempt counts, whatever became of it."""

    async def _count(self, limits: Sequence[tuple[str, RateLimitItem, tuple[str, ...]]]) -> Standing:
        standings = []
        for whose, item, identity in limits:
            let_through = await self._limiter.hit(item, *identity)
            stats = await self._limiter.get_window_stats(item, *identity)
            reset = max(1, math.ceil(stats.reset_time - time.time()))
            standing = Standing(item.amount, max(0, stats.remaining), reset)
            if not let_through:
                raise _refusal(whose, item, standing)
            standings.append(standing)
        return min(standings, key=lambda standing: standing.remaining)


def _refusal(whose: str, item: RateLimitItem, standing: Standing) -> ProblemError:
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "RateLimited",
        f"Rate limit exceeded: {item}, for {whose}",
        remedy="try again after the time that Retry-After names",
        retry_after_seconds=standing.reset_seconds,
        headers={**standing.headers, "X-RateLimit-Remaining": "0"},
    )
