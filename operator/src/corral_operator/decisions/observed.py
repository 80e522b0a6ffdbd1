"""What a decision about a task is made from, besides the task."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from corral.api import ExecutionStatus, Reason, Tool
from corral.catalogue import Catalogue, validate_arguments
from corral.policy import Policy
from corral.sandbox.plan import Check
from corral_operator.decisions.match import PoolSupply
from corral_operator.settings import Settings
from corral_operator.views import PodView


@dataclass(frozen=True, slots=True)
class RunView:
    """What is known of an attempt that was started, as far as its runner could tell."""

    #: How it ended.
    ended: ExecutionStatus | None = None
    #: The runner was lost before it told; what became of the pod says why. In words for people.
    lost: str | None = None
    #: Nothing of it ran: the sandbox had served somebody else, or was never told.
    never_started: str | None = None
    #: When it was known to have ended, or to be lost.
    over_at: datetime | None = None
    #: The tool may have begun.
    began: bool = False
    #: When the runner was last asked whether it is still there.
    asked_at: datetime | None = None
    #: When the runner was asked to end it.
    cancelled_at: datetime | None = None
    #: The runner itself has said how it ended, so that nothing of it runs any more.
    told: bool = False
    #: The layers of isolation that the runner named.
    isolation: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program printed. Where the streams cannot be told apart, stdout has both."""

    stdout: str = ""
    stderr: str = ""
    #: The program had ended before this was read: there is no more of it.
    final: bool = True
    #: Why it could not be read, in words for people; empty where it was.
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a status has gone to the artifact store."""

    #: By which names it is there.
    names: frozenset[str] = frozenset()
    #: Why it is not there, in words for people; empty where it is.
    problem: str = ""
    #: The same as ``error.type``.
    problem_type: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server would not make a pod."""

    reason: Reason
    message: str
    field: str | None = None
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The world around a task at one moment."""

    #: When this operator first saw the task.
    seen: datetime
    #: Pods of the task by name: the cold ones that exist, and the waiting ones that it was given.
    pods: Mapping[str, PodView] = field(default_factory=dict)
    #: Names of pods that were asked for and do not exist. That a watch has not told of a pod yet says nothing.
    absent: frozenset[str] = frozenset()
    #: Pods that are gone, as they were last seen, by name.
    last_seen: Mapping[str, PodView] = field(default_factory=dict)
    #: Attempts that this operator follows or has followed, by execution; of the current attempt only.
    runs: Mapping[str, RunView] = field(default_factory=dict)
    #: Why the pod of the current attempt could not be made, by execution.
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    #: Executions whose pod of the current attempt was made at some time by this operator.
    made: frozenset[str] = frozenset()
    #: Executions whose pod this operator itself wrote into the status before it made it.
    assigned: frozenset[str] = frozenset()
    #: When the position in a queue was last told.
    position_told: datetime | None = None
    #: Pools of the namespace, with the sandboxes that this task may have now.
    pools: tuple[PoolSupply, ...] = ()
    #: Position in a pool's queue, from 1, by execution.
    positions: Mapping[str, int] = field(default_factory=dict)
    #: For a program in an image without a runner: what it printed, as far as that was read, by execution.
    logs: Mapping[str, Printed] = field(default_factory=dict)
    #: What the artifact store was given when an execution had ended, so that the status has room, by execution.
    kept: Mapping[str, Kept] = field(default_factory=dict)
    #: Tools that the API server was asked for on behalf of this task: what is known of them is what there is.
    looked_up: frozenset[str] = frozenset()


class UnheardOfError(Exception):
    """Nothing can be decided before the API server was asked for tools: no watch has told of them, or of a version."""

    def __init__(self, tools: Collection[str]) -> None:
        self.tools = frozenset(tools)
        super().__init__(", ".join(sorted(self.tools)))


class UncheckedError(Exception):
    """Nothing can be decided before it is known whether these arguments fit."""

    def __init__(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        self.tool = tool
        self.arguments = arguments
        super().__init__(tool.name)


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change from one look to the next."""

    settings: Settings
    policy: Policy
    #: The tools of the task's namespace.
    catalogue: Catalogue
    #: Whether somebody enforces NetworkPolicies: True, False, or None for not known.
    policies_enforced: bool | None = None
    #: Says what is wrong with a call's arguments, or raises ``UncheckedError``: finding it out may take long.
    check: Check = validate_arguments
