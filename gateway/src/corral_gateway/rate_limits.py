"""How often: each caller, on each route, each tool, and over all callers. Counted here, or in a shared store."""

import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from limits import RateLimitItemPerMinute, parse

from corral.api import AgentTask, Tool
from corral_gateway.identity.caller import Caller
from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError
from corral_gateway.rates.rules import Rules, of_tool, routes_of
from corral_gateway.rates.shared import SharedCounts, StoreDownError
from corral_gateway.rates.windows import Exceeded, Limit, Standing, Windows
from corral_gateway.settings import Settings

__all__ = ["RateLimits", "Standing"]

log = logging.getLogger(__name__)

#: A store that was down is asked again after so long, by one request; the others are counted here meanwhile.
_ASK_AGAIN_SECONDS = 1.0


class RateLimits:
    """Every limit of one gateway; a ``Guard`` for what tools have themselves.

    With a shared store that is down the gateway goes on with the same limits, counted by each process for itself:
    a store is there to share counts, and its end must not be that of all requests, nor of all limits.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._enabled = settings.rate_limit_enabled
        self._rules = rules_of(settings)
        self._metrics = metrics
        self._clock = clock
        self._here = Windows()
        url = settings.rate_limit_url.get_secret_value()
        self._shared = SharedCounts(url) if url else None
        #: Until then the store is not asked; None: it answers.
        self._down_until: float | None = None
        metrics.rate_store_up.set(1 if url else 0)

    async def request(self, caller: str, route: str) -> Standing | None:
        """Count a request.

        Args:
            caller: who sends it.
            route: method and path as declared, such as ``POST /v1/tasks``; of gRPC the method alone.

        Returns:
            Where the caller stands; None: nothing is limited.

        Raises:
            ProblemError: it is one too many.
        """
        return await self._count(self._rules.of_request(caller, route)) if self._enabled else None

    async def admit(self, _task: AgentTask, tools: Sequence[Tool], _caller: Caller) -> None:
        """Count a call of each tool; see ``Guard``."""
        own = [
            of_tool(tool.name, tool.spec.rate_limit.requests_per_minute)
            for tool in tools
            if tool.spec.rate_limit is not None
        ]
        if own and self._enabled:
            await self._count(own)

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``: an attempt counts, whatever became of it."""

    def close(self) -> None:
        """Give up the store."""
        if self._shared is not None:
            self._shared.close()

    async def _count(self, limits: Sequence[Limit]) -> Standing:
        outcome = await self._hit_shared(limits)
        if outcome is None:
            outcome = self._here.hit(limits, self._clock())
        if isinstance(outcome, Exceeded):
            self._metrics.rate_limited.labels(outcome.limit.kind).inc()
            raise _refusal(outcome)
        return outcome

    async def _hit_shared(self, limits: Sequence[Limit]) -> Standing | Exceeded | None:
        """Count in the store; None: there is none, or it is down."""
        if self._shared is None:
            return None
        if self._down_until is not None:
            if self._clock() < self._down_until:
                return None
            self._down_until = self._clock() + _ASK_AGAIN_SECONDS  # this request asks, the others do not
        try:
            outcome = await self._shared.hit(limits)
        except StoreDownError as error:
            self._metrics.rate_store_failures.inc()
            if self._down_until is None:
                log.warning("the store of rate limits is down, each gateway counts for itself: %s", error)
                self._metrics.rate_store_up.set(0)
            self._down_until = self._clock() + _ASK_AGAIN_SECONDS
            return None
        if self._down_until is not None:
            self._down_until = None
            self._metrics.rate_store_up.set(1)
            log.warning("the store of rate limits answers again, counts are shared again")
        return outcome


def rules_of(settings: Settings) -> Rules:
    """Return the limits that settings name."""
    executing = settings.rate_limit_requests
    return Rules(
        parse(settings.rate_limit_caller),
        parse(settings.rate_limit_global),
        RateLimitItemPerMinute(executing) if executing else None,
        routes_of(settings.rate_limit_routes),
    )


def _refusal(exceeded: Exceeded) -> ProblemError:
    standing, told = exceeded.standing, f"Rate limit exceeded: {exceeded.limit.rate}"
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "RateLimited",
        f"{told}, for {exceeded.limit.whose}",
        remedy="try again after the time that Retry-After names",
        retry_after_seconds=standing.reset_seconds,
        headers=standing.headers,
        error=told,
    )
