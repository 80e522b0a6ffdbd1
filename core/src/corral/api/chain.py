"""The logic of chains: what may run next, and what is wrong with one. Pure; all backends share it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corral.api.errors import Finding, Location
from corral.api.reasons import Reason
from corral.api.references import Reference, ReferenceProblem, find_references, resolve, walk_path
from corral.api.status import ExecutionStatus
from corral.api.steps import OnFailure, Step, Strategy

if TYPE_CHECKING:
    from corral.api.task import AgentTaskSpec


#: A task of one tool has one execution, called so.
MAIN = "main"


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How a step ended, as far as other steps may know."""

    reason: Reason
    result: Any = None
    stdout: str = ""
    stderr: str = ""

    @property
    def succeeded(self) -> bool:
        """The step completed."""
        return self.reason is Reason.COMPLETED

    @classmethod
    def of(cls, status: ExecutionStatus) -> "StepOutcome":
        """Take what other steps may know from the status of an execution that has ended."""
        assert status.reason is not None
        output = status.output
        return cls(
            status.reason, status.result, output.stdout if output else "", output.stderr if output else ""
        )


@dataclass(frozen=True, slots=True)
class ChainDecision:
    """What to do now: start what is ready, wait while something runs, or record the end."""

    #: Steps to start now, in the order of the spec.
    ready: tuple[str, ...] = ()
    #: Steps that will never run.
    skipped: tuple[str, ...] = ()
    #: Why the chain ended; None while it has not.
    reason: Reason | None = None
    #: The same in one sentence.
    message: str = ""

    @property
    def finished(self) -> bool:
        """Nothing runs any more and nothing will."""
        return self.reason is not None


def next_steps(
    spec: "AgentTaskSpec", finished: Mapping[str, StepOutcome], running: Collection[str] = ()
) -> ChainDecision:
    """Say what a chain does next.

    A step that fails with ``onFailure: Stop`` lets no further step start; those that run already run to their
    end. With ``Continue`` the chain goes on, and completes although that step failed.

    Args:
        spec: a validated spec with ``steps``.
        finished: how the steps ended that have.
        running: the steps that were started and have not ended.
    """
    steps = spec.steps
    fatal = fatal_step(spec, finished)
    waiting = [step for step in steps if step.name not in finished and step.name not in running]
    if fatal is not None:
        skipped = tuple(step.name for step in waiting)
        if running:
            return ChainDecision(skipped=skipped)
        why = finished[fatal.name].reason
        return ChainDecision(
            skipped=skipped,
            reason=Reason.CANCELLED if why is Reason.CANCELLED else Reason.STEP_FAILED,
            message=f"step {fatal.name} ended with {why}",
        )
    before = dependencies(steps, spec.strategy)
    ready = tuple(step.name for step in waiting if all(name in finished for name in before[step.name]))
    if ready or running:
        return ChainDecision(ready=ready)
    failed = [step.name for step in steps if not finished[step.name].succeeded]
    tolerated = f", {', '.join(failed)} failed with onFailure: Continue" if failed else ""
    return ChainDecision(reason=Reason.COMPLETED, message=f"{_count(len(steps))} ended{tolerated}")


def fatal_step(spec: "AgentTaskSpec", finished: Mapping[str, StepOutcome]) -> Step | None:
    """Return the step whose failure ends the chain, None while there is none.

    Of several the first that failed of itself: others may have been cancelled because of it.
    """
    failed = [
        step
        for step in spec.steps
        if step.name in finished and not finished[step.name].succeeded and step.on_failure is OnFailure.STOP
    ]
    return min(failed, key=lambda step: finished[step.name].reason is Reason.CANCELLED, default=None)


def dependencies(steps: Sequence[Step], strategy: Strategy) -> dict[str, tuple[str, ...]]:
    """Return for each step the names of those that must have ended before it starts."""
    before: dict[str, tuple[str, ...]] = {}
    previous: tuple[str, ...] = ()
    for step in steps:
        order = previous if strategy is Strategy.SEQUENTIAL else ()
        before[step.name] = tuple(dict.fromkeys((*order, *(name for _, name in _needs(step)))))
        previous = (step.name,)
    return before


def resolve_arguments(step: Step, finished: Mapping[str, StepOutcome]) -> dict[str, Any]:
    """Return a step's arguments with the references to earlier steps replaced.

    Raises:
        ReferenceProblem: the result has no such part, or the whole is too large; ``location`` starts at
            ``arguments``.
    """

    def lookup(reference: Reference) -> Any:
        outcome = finished.get(reference.name)
        if outcome is None:
            raise ReferenceProblem(str(reference), f"{reference}: step {reference.name} has not ended")
        output, *path = reference.path
        if output == "result" and outcome.result is None and not outcome.succeeded:
            message = f"{reference}: step {reference.name} ended with {outcome.reason} and left no result"
            raise ReferenceProblem(str(reference), message)
        return walk_path(getattr(outcome, output), reference, path)

    try:
        resolved: dict[str, Any] = resolve(dict(step.arguments), lookup)
    except ReferenceProblem as problem:
        raise problem.below(("arguments",)) from None
    return resolved


@dataclass(slots=True)
class _Check:
    steps: Sequence[Step]
    strategy: Strategy
    max_depth: int
    findings: list[Finding] = field(default_factory=list)
    #: For each step by index: where it names another, and that one's index.
    edges: list[list[tuple[Location, int]]] = field(default_factory=list)

    def run(self) -> list[Finding]:
        index = self._names()
        for position, step in enumerate(self.steps):
            self.edges.append(list(self._edges(position, step, index)))
        if not self.findings:
            self._order()
        return self.findings

    def _names(self) -> dict[str, int]:
        index: dict[str, int] = {}
        for position, step in enumerate(self.steps):
            if step.name in index:
                self._add((position, "name"), f'a step named "{step.name}" is there already')
            index.setdefault(step.name, position)
        return index

    def _edges(self, position: int, step: Step, index: Mapping[str, int]) -> Iterator[tuple[Location, int]]:
        try:
            needs = list(_needs(step))
        except ReferenceProblem as problem:
            self._add((position, "arguments", *problem.location), problem.message)
            return
        for location, name in needs:
            target = index.get(name)
            if target is None:
                known = ", ".join(index)
                self._add((position, *location), f'there is no step named "{name}"; there are {known}')
            elif target == position:
                self._add((position, *location), "a step cannot wait for itself")
            elif self.strategy is Strategy.SEQUENTIAL and target > position:
                remedy = "put it further up, or set strategy: Parallel"
                self._add((position, *location), f'step "{name}" comes later in the sequence', remedy)
            else:
                yield location, target

    def _order(self) -> None:
        """Take away the steps that wait for nothing (Kahn): what is left is a cycle or waits for one."""
        depth = [1] * len(self.steps)
        blocked = [{target for _, target in edges} for edges in self.edges]
        left = set(range(len(self.steps)))
        while free := [position for position in sorted(left) if not blocked[position] & left]:
            for position in free:
                depth[position] = 1 + max((depth[target] for target in blocked[position]), default=0)
            left.difference_update(free)
        if left:
            self._name_cycle(left)
        for position, value in enumerate(depth):
            if value > self.max_depth:
                self._add((position,), f"depth {value} of the chain is more than maxDepth {self.max_depth}")
                break

    def _name_cycle(self, left: set[int]) -> None:
        trail = [min(left)]
        while True:
            location, target = next(edge for edge in self.edges[trail[-1]] if edge[1] in left)
            if target in trail:
                break
            trail.append(target)
        names = [self.steps[position].name for position in (*trail[trail.index(target) :], target)]
        self._add((trail[-1], *location), f"the steps wait for each other: {' → '.join(names)}")

    def _add(self, location: Location, message: str, remedy: str | None = None) -> None:
        self.findings.append(Finding(("steps", *location), message, remedy=remedy))


def check_steps(steps: Sequence[Step], strategy: Strategy, max_depth: int) -> list[Finding]:
    """Return what is wrong with the steps of a chain: names, references, cycles, depth.

    The depth of a step is 1, plus the depth of the deepest step that it depends on or refers to. The order
    that ``strategy: Sequential`` adds does not count: a list of independent steps has depth 1.
    """
    return _Check(steps, strategy, max_depth).run()


def _needs(step: Step) -> Iterator[tuple[Location, str]]:
    for position, name in enumerate(step.depends_on):
        yield ("dependsOn", position), name
    for location, reference in find_references(step.arguments):
        yield ("arguments", *location), reference.name


def _count(number: int, noun: str = "step") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
