"""The breakers of one gateway, as a ``Guard`` and a ``TaskObserver``."""

import logging
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from http import HTTPStatus

from prometheus_client import Gauge

from corral.api import AgentTask, Reason, Tool
from corral_gateway.breakers.breaker import Breaker, BreakerRules, State
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings
from corral_gateway.tasks.stamps import submission_of

log = logging.getLogger(__name__)

#: What is our fault, not the tool's: where tools ran, or should have.
OURS = frozenset(
    {Reason.SANDBOX_FAILED, Reason.NODE_LOST, Reason.EVICTED, Reason.UNSCHEDULABLE, Reason.ADMISSION_REFUSED}
)
#: A tool's image that is not there is a fault of the tool's manifest, and of no other tool.
OF_A_TOOL = OURS | {Reason.IMAGE_PULL_FAILED}
#: What says nothing of how well sandboxes work: nobody let the tool run to its end.
SAYS_NOTHING = frozenset({Reason.CANCELLED, Reason.STEP_FAILED})
#: Of more tools than these only the ones that were used last are known; the others are taken for closed.
_MOST_TOOLS = 1000
#: A fault of one tool alone must not stop all: so many must fail in a row of failures.
_TOOLS_AT_FAULT = 2


class Breakers:
    """One breaker for each tool, and one for whatever runs them."""

    def __init__(self, rules: BreakerRules, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._tools: OrderedDict[str, Breaker] = OrderedDict()
        self._executor = Breaker(rules)
        #: The tools whose failures came last, without a success between.
        self._failing: set[str] = set()

    async def admit(self, task: AgentTask, tools: Sequence[Tool], _caller: Caller) -> None:
        """Refuse a task that would run what fails; see ``Guard``."""
        who, now = task.metadata.uid or "", self._clock()
        asked: list[Breaker] = []
        for whose, breaker in self._asked(tools):
            wait = breaker.admit(who, now)
            if wait is not None:
                for before in asked:
                    before.withdrawn(who)
                raise _refusal(whose, wait)
            asked.append(breaker)

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:  # noqa: ARG002 - see ``Guard``
        """Forget a probe that never began; see ``Guard``."""
        who = task.metadata.uid or ""
        self._executor.withdrawn(who)
        for name in set(task.spec.called_tools):
            if name in self._tools:
                self._tools[name].withdrawn(who)

    def ended(self, task: AgentTask, caller: str, seconds: float) -> None:  # noqa: ARG002 - see ``TaskObserver``
        """Note how a task's executions ended; see ``TaskObserver``."""
        who, now = submission_of(task), self._clock()
        told = False
        for execution in task.executions:
            reason = execution.reason
            if reason is None or reason in SAYS_NOTHING or not execution.tool:
                continue
            told = True
            self._note(execution.tool, reason, who, now)
        if not told and task.reason is not None and task.reason in OF_A_TOOL:  # no execution came to be
            for name in set(task.spec.called_tools):
                self._note(name, task.reason, who, now)
        elif not told:
            for breaker in (
                self._executor,
                *(self._tools[name] for name in set(task.spec.called_tools) if name in self._tools),
            ):
                breaker.withdrawn(who)

    def states(self) -> dict[tuple[str, State], int]:
        """Return how many breakers stand how: of ``tool``, and the one of ``executor``."""
        now = self._clock()
        counts = Counter(("tool", breaker.state(now)) for breaker in self._tools.values())
        counts["executor", self._executor.state(now)] += 1
        return {(scope, state): counts[scope, state] for scope in ("tool", "executor") for state in State}

    def show(self, gauge: Gauge) -> None:
        """Let a gauge say how they stand whenever it is read."""

        def count_of(key: tuple[str, State]) -> Callable[[], float]:
            return lambda: self.states()[key]

        for key in self.states():
            gauge.labels(*key).set_function(count_of(key))

    def _asked(self, tools: Sequence[Tool]) -> list[tuple[str, Breaker]]:
        found = [("what runs tasks", self._executor)]
        for tool in tools:
            breaker = self._tools.get(tool.name)
            if breaker is not None:
                self._tools.move_to_end(tool.name)
                found.append((f"the tool {tool.name}", breaker))
        return found

    def _note(self, tool: str, reason: Reason, who: str, now: float) -> None:
        breaker = self._tools.get(tool)
        if reason not in OF_A_TOOL:
            self._failing.clear()
            self._executor.succeeded(who, now)
            if breaker is not None:  # of a tool that never failed nothing need be known
                breaker.succeeded(who, now)
            return
        if breaker is None:
            breaker = self._tools[tool] = Breaker(self._rules)
            if len(self._tools) > _MOST_TOOLS:
                self._tools.popitem(last=False)
        before = breaker.state(now)
        breaker.failed(who, now)
        if before is not State.OPEN and breaker.state(now) is State.OPEN:
            log.warning("the circuit of the tool %s opens: %s again and again", tool, reason)
        if reason in OURS:
            self._note_executor(tool, who, now)

    def _note_executor(self, tool: str, who: str, now: float) -> None:
        if len(self._failing) < _TOOLS_AT_FAULT:
            self._failing.add(tool)
        before = self._executor.state(now)
        if before is State.HALF_OPEN or len(self._failing) >= _TOOLS_AT_FAULT:
            self._executor.failed(who, now)
        if before is not State.OPEN and self._executor.state(now) is State.OPEN:
            log.warning("the circuit of what runs tasks opens: tools fail there one after another")


def breakers_of(settings: Settings) -> Breakers | None:
    """Return the breakers that settings ask for; None: none."""
    if not settings.breaker_failures:
        return None
    return Breakers(BreakerRules(failures=settings.breaker_failures, open_seconds=settings.breaker_seconds))


def _refusal(whose: str, seconds: float) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "CircuitOpen",
        f"{whose} failed again and again by no fault of a task; it is not tried for a while",
        remedy="try again after the time that Retry-After names; the executions before say why they failed",
        retry_after_seconds=max(1, math.ceil(seconds)),
    )
