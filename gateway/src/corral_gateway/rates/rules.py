"""Which limits a request is held against. Pure."""

from dataclasses import dataclass, field
from functools import lru_cache

import limits
from limits import RateLimitItem, RateLimitItemPerMinute

from corral_gateway.rates.windows import Limit

#: What runs something, as routes are declared; and the methods of gRPC that do.
EXECUTING = frozenset({"POST /v1/tasks", "POST /tools/execute", "ExecuteTask", "StreamExecuteTask"})


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits there are, but for those that tools have themselves."""

    caller: RateLimitItem
    everybody: RateLimitItem
    #: Of each caller, over all routes that execute; None: no more than the caller's other limits.
    executing: RateLimitItem | None = None
    #: Of each caller, by route: ``POST /v1/tasks``, or a method of gRPC.
    routes: dict[str, RateLimitItem] = field(default_factory=dict)

    def of_request(self, caller: str, route: str) -> tuple[Limit, ...]:
        """Return the limits of a request, the narrowest first: who is refused takes nothing from all."""
        found = [Limit("caller", caller, self.caller, "you")]
        if route in self.routes:
            found.append(Limit("route", f"{route} {caller}", self.routes[route], f"you on {route}"))
        if self.executing is not None and route in EXECUTING:
            found.append(Limit("route", f"execute {caller}", self.executing, "what you execute"))
        found.append(Limit("global", "all", self.everybody, "all callers"))
        return tuple(found)


def of_tool(name: str, requests_per_minute: int) -> Limit:
    """Return the limit that a tool has itself, over all callers."""
    return Limit("tool", name, _per_minute(requests_per_minute), f"the tool {name}")


def routes_of(text: str) -> dict[str, RateLimitItem]:
    """Read ``POST /v1/tasks=60/minute, ExecuteTask=10/second``.

    Raises:
        ValueError: a part is none.
    """
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        route, mark, rate = part.rpartition("=")
        if not mark or not route.strip():
            raise ValueError(f"expected ROUTE=RATE, such as POST /v1/tasks=60/minute, found {part!r}")
        found[" ".join(route.split())] = limits.parse(rate.strip())
    return found


@lru_cache(maxsize=1024)
def _per_minute(amount: int) -> RateLimitItem:
    return RateLimitItemPerMinute(amount)
