"""What a decision about a task can ask for: the status to write, and what to do once it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from corral.api import AgentTaskStatus
from corral.cluster.port import ObjectKey
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.decisions.sizes import SandboxSize


@dataclass(frozen=True, slots=True)
class Program:
    """What the container of an image without a runner does by itself."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Make the pod of one attempt. Its name follows from the attempt, so asking twice makes one."""

    execution: str
    attempt: int
    name: str
    size: SandboxSize
    #: Image; None: the operator's own.
    image: str | None = None
    runtime_class: str | None = None
    #: The program of an image without a runner; None: the runner.
    program: Program | None = None
    #: Seconds that the pod may exist, its start included, whether or not anybody looks after it.
    deadline_seconds: int | None = None
    #: The pool that had no sandbox for it.
    missed_pool: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Connect to the sandbox of an execution and start it there; the same again is a re-attach.

    Without a request it only attaches: what runs there already is followed.
    """

    execution: str
    pod: ObjectKey
    owner: Owner
    request: ExecutionRequest | None


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a claimed sandbox more CPU or memory before it starts."""

    execution: str
    pod: ObjectKey
    size: SandboxSize


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the runner to end an execution."""

    execution: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Find out whether the runner of an execution still answers; if not, it counts as lost."""

    execution: str


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read what the program of a pod without a runner has printed, and look at the task again."""

    execution: str
    attempt: int
    pod: ObjectKey
    #: The program has ended, and what it printed is its result; else it is read once, in its deadline's last seconds.
    final: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Put into the artifact store what the status has no room for, now that an execution has ended; look again."""

    execution: str
    attempt: int
    #: By their names in the store.
    contents: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Take a pod away whose work is done or is not wanted any more."""

    pod: ObjectKey
    #: It said itself how its work ended, and runs nothing: it may go when the cluster has nothing better to do.
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Write an Event that a person would want to read."""

    type: str  #: Normal or Warning
    reason: str
    message: str


Action: TypeAlias = CreatePod | Start | Resize | Cancel | Ask | ReadLog | Keep | DeletePod | Tell


@dataclass(frozen=True, slots=True)
class Waiting:
    """An execution that wants a sandbox of a pool that has none ready."""

    execution: str
    pool: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a task now. The status is written first; nothing else happens unless that succeeded."""

    #: None: it stands as it should.
    status: AgentTaskStatus | None = None
    #: In this order, after the status.
    actions: tuple[Action, ...] = ()
    #: Waiting sandboxes that the status gives to executions, by execution; nobody else may have them meanwhile.
    claims: tuple[tuple[str, ObjectKey], ...] = ()
    #: Names of the pools that those are of, by execution.
    pools: Mapping[str, str] = field(default_factory=dict)
    #: Executions that wait in a pool's queue.
    waiting: tuple[Waiting, ...] = ()
    #: Look again then, if nothing happens before.
    wake_at: datetime | None = None
