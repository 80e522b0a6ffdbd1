"""The steps of a chain."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from corral.api.limits import Limits
from corral.api.model import ApiModel, DnsLabel, JsonObject, ToolName

#: More belongs into several tasks: the status of all steps must fit into one object.
MAX_STEPS = 64


class OnFailure(StrEnum):
    """What a failed step does to the chain."""

    STOP = "Stop"
    CONTINUE = "Continue"


class Strategy(StrEnum):
    """In which order the steps of a chain run."""

    SEQUENTIAL = "Sequential"
    PARALLEL = "Parallel"


class Step(ApiModel):
    """One tool call of a chain."""

    name: DnsLabel = Field(description="Name within the chain; others refer to it as $(steps.NAME.result).")
    tool: ToolName = Field(description="The tool to run.")
    arguments: JsonObject = Field(
        {},
        description="The tool's arguments; strings may hold $(steps.NAME.result.PATH), $(steps.NAME.stdout).",
    )
    limits: Limits | None = Field(
        None, description="Limits of this step; what is absent is taken from spec.limits."
    )
    on_failure: OnFailure = Field(
        OnFailure.STOP,
        description="Stop: no further step starts once this one failed. Continue: the chain goes on.",
    )
    depends_on: Annotated[tuple[DnsLabel, ...], Field(max_length=MAX_STEPS)] = Field(
        (),
        description="Steps that must have ended before this one; steps it refers to are added by themselves.",
    )
