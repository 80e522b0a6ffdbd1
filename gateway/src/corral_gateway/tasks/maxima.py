"""What a task through this gateway may ask for at most."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus

from corral.api import MAXIMUM_LIMITS, AgentTask, Limits, Problem, Tool
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings


class Maxima:
    """A ``Guard``: a request above a maximum is refused with the field's name, never lowered."""

    def __init__(self, settings: Settings) -> None:
        self._maximum = maximum_limits(settings)

    async def admit(self, task: AgentTask, _tools: Sequence[Tool], _caller: Caller) -> None:
        """See ``Guard``."""
        problems = list(excesses(task, self._maximum))
        if problems:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidSpec", str(problems[0]), problems=problems
            )

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``: nothing was counted."""


def maximum_limits(settings: Settings) -> Limits:
    """Return what settings allow at most."""
    own = Limits.model_construct(
        timeout=f"{settings.max_tool_timeout:g}s" if settings.max_tool_timeout else None,
        output=str(settings.max_output_size) if settings.max_output_size else None,
    )
    return own.merged_over(settings.max_limits).merged_over(MAXIMUM_LIMITS)


def excesses(task: AgentTask, maximum: Limits) -> Iterator[Problem]:
    """Yield every limit that a task asks too much of."""
    asked = [("spec.limits", task.spec.limits)]
    asked += [(f"spec.steps[{number}].limits", step.limits) for number, step in enumerate(task.spec.steps)]
    for path, limits in asked:
        for name in limits.exceeds(maximum) if limits is not None else ():
            assert limits is not None
            wanted, most = limits.to_wire()[name], maximum.to_wire()[name]
            yield Problem(
                f"{path}.{name}",
                f"asks for {wanted}, this gateway gives at most {most}",
                remedy=f"ask for at most {most}, or have the gateway's maximum raised",
            )
