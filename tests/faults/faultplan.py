"""Which faults the proxy makes: data, switched by commands, chosen by one seeded source of chance."""

import random
from dataclasses import dataclass, field
from typing import Literal

from faults.journal import Request, Stage

Kind = Literal["delay", "answer", "cut"]


@dataclass(slots=True)
class Rule:
    """A fault for the requests that match. Empty tuples match everything but Leases, which are matched by name."""

    kind: Kind
    verbs: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    #: Share of the matching requests that are struck.
    chance: float = 1.0
    #: How many are struck at most; None: no end.
    times: int | None = None
    #: Of an answer.
    status: int = 500
    #: ``unwritten``: instead of forwarding. ``unanswered``: after the API server has done it.
    stage: Stage = "unwritten"
    #: Of a delay, and of Retry-After.
    seconds: float = 0.0

    def matches(self, client: str, request: Request) -> bool:
        """Whether a request is of this rule's kind."""
        resource = request.resource in (self.resources or {request.resource} - {"leases"})
        return (
            self.times != 0
            and resource
            and (not self.verbs or request.verb in self.verbs)
            and (not self.subresources or request.subresource in self.subresources)
            and (not self.clients or client in self.clients)
        )


@dataclass(slots=True)
class WatchFaults:
    """What happens to watches."""

    #: Share of the events that never arrive.
    drop: float = 0.0
    #: Each event comes so much later; the order stays.
    lag_seconds: float = 0.0
    #: Share of the events that are overtaken by the next event of another object.
    reorder: float = 0.0
    #: Nothing comes any more, and the connection stays open.
    frozen: bool = False
    #: Share of the events after which the stream says 410 and ends.
    gone: float = 0.0
    #: Share of the events after which the connection breaks.
    cut: float = 0.0


@dataclass(slots=True)
class FaultPlan:
    """All faults that are switched on."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    watches: WatchFaults = field(default_factory=WatchFaults)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    #: How many faults were made, by kind.
    made: dict[str, int] = field(default_factory=dict)

    def strike(self, client: str, request: Request) -> list[Rule]:
        """Return the rules that strike a request, in their order."""
        found = []
        for rule in self.rules:
            if rule.matches(client, request) and self.chance.random() < rule.chance:
                if rule.times is not None:
                    rule.times -= 1
                self.count(f"{rule.kind} {rule.status if rule.kind == 'answer' else rule.stage}")
                found.append(rule)
        return found

    def happens(self, share: float, what: str) -> bool:
        """Whether a fault of this share strikes now."""
        if share and self.chance.random() < share:
            self.count(what)
            return True
        return False

    def count(self, what: str) -> None:
        """Note that a fault was made: a test whose faults never struck proves nothing."""
        self.made[what] = self.made.get(what, 0) + 1
