"""Tasks, tools and rules as the decisions see them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from corral.api import (
    AgentTaskStatus,
    ExecutionOutput,
    ExecutionStatus,
    NetworkMode,
    Phase,
    Reason,
    SandboxPool,
    Timings,
    Tool,
    WhenEmpty,
    WhenLarger,
    time_text,
)
from corral.catalogue import Catalogue
from corral.cluster.port import ObjectKey
from corral.policy import Policy
from corral_operator.decisions.actions import Action, Plan
from corral_operator.decisions.match import PoolSupply
from corral_operator.decisions.observed import Observed, Rules
from corral_operator.decisions.task_view import TaskView, task_view
from corral_operator.settings import Settings
from corral_operator.views import PodView
from unit.operator.factories import NOW, POOL, RUNNING, SIZE, pod

TASK = ObjectKey("team", "job", "task-uid")
SETTINGS = Settings()


def tool(name: str, **spec: Any) -> Tool:
    """A tool; by default one that takes what it gets, needs nothing, and must not run twice."""
    values = {"description": name, "run": {"builtin": "calculator"}, **spec}
    return Tool.model_validate({"metadata": {"name": name}, "spec": values})


PROGRAM = {"command": {"argv": ["/bin/prog"], "image": "theirs:1"}}
TOOLS = (
    tool("once"),
    tool("again", idempotent=True),
    tool("program", run=PROGRAM),
    tool("program-again", run=PROGRAM, idempotent=True),
    tool(
        "counts", inputSchema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    ),
    tool("forbidden", permissions=["network"]),
)


def rules(*, tools: Sequence[Tool] = TOOLS, enforced: bool | None = None, **settings: Any) -> Rules:
    """What does not change: by default, the tools above and the default policy."""
    return Rules(Settings(**settings) if settings else SETTINGS, Policy(), Catalogue(tools), enforced)


RULES = rules()


def task_body(
    spec: Mapping[str, Any],
    status: AgentTaskStatus | Mapping[str, Any] | None = None,
    *,
    age: float = 10,
    **metadata: Any,
) -> dict[str, Any]:
    """A task as an API server sends it, created ``age`` seconds before ``NOW``."""
    if isinstance(status, AgentTaskStatus):
        status = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "metadata": {
            "namespace": TASK.namespace,
            "name": TASK.name,
            "uid": TASK.uid,
            "resourceVersion": "5",
            "generation": 1,
            "creationTimestamp": time_text(NOW - timedelta(seconds=age)),
            **metadata,
        },
        "spec": dict(spec),
        **({} if status is None else {"status": dict(status)}),
    }


def task(
    spec: Mapping[str, Any] | None = None,
    status: AgentTaskStatus | Mapping[str, Any] | None = None,
    **fields: Any,
) -> TaskView:
    """The view of a task; by default of one call of the tool ``once``."""
    return task_view(task_body({"tool": "once"} if spec is None else spec, status, **fields))


def pool_body(**spec: Any) -> dict[str, Any]:
    """A pool as an API server sends it, of one sandbox that tasks wait for."""
    values = {"replicas": 1, "whenEmpty": "Queue", **spec}
    body = SandboxPool.model_validate({"metadata": {"name": POOL.name}, "spec": values}).to_wire()
    body["metadata"] |= {"namespace": POOL.namespace, "uid": POOL.uid, "generation": 1}
    return body


def again(view: TaskView, plan: Plan) -> TaskView:
    """The task as it stands once a plan's status is written, by way of the wire."""
    if plan.status is None:
        return view
    wire = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return replace(view, status=AgentTaskStatus.model_validate(wire))


def observed(*pods: PodView, **fields: Any) -> Observed:
    """The world around a task that was seen two seconds ago."""
    values: dict[str, Any] = {
        "seen": NOW - timedelta(seconds=2),
        "pods": {one.key.name: one for one in pods},
        "looked_up": frozenset({"unknown", "there-is-none"}),
        **fields,
    }
    return Observed(**values)


def warm(name: str = "warm", **fields: Any) -> PodView:
    """A waiting sandbox of the pool."""
    return pod(
        name, **{"state": RUNNING, "ready": True, "owner_uid": POOL.uid, "podIP": "10.0.0.7", **fields}
    )


def pool(*ready: PodView, empty: WhenEmpty = WhenEmpty.COLD, **changes: Any) -> PoolSupply:
    """A pool whose sandboxes fit by default."""
    supply = PoolSupply(
        key=POOL,
        size=SIZE,
        image=None,
        runtime_class=None,
        network=NetworkMode.NONE,
        when_empty=empty,
        when_larger=WhenLarger.COLD,
        ready=ready,
    )
    return replace(supply, **changes)


def result(
    reason: Reason = Reason.COMPLETED,
    *,
    name: str = "main",
    tool: str = "once",
    attempt: int = 1,
    value: Any = None,
    stdout: str = "",
    started: datetime = NOW,
    finished: datetime = NOW,
    **fields: Any,
) -> ExecutionStatus:
    """How an execution ended, as its runner told."""
    phases = {Reason.COMPLETED: Phase.SUCCEEDED, Reason.CANCELLED: Phase.CANCELLED}
    return ExecutionStatus(
        name=name,
        tool=tool,
        attempt=attempt,
        phase=phases.get(reason, Phase.FAILED),
        reason=reason,
        message=None if reason is Reason.COMPLETED else f"it ended with {reason}",
        output=ExecutionOutput(stdout=stdout),
        result=value,
        timings=Timings(
            queued=time_text(started),
            claimed=time_text(started),
            started=time_text(started),
            finished=time_text(finished),
        ),
        **fields,
    )


def of_type(plan: Plan, *kinds: type[Action]) -> list[Action]:
    """Return the actions of a plan that are of these kinds."""
    return [action for action in plan.actions if isinstance(action, kinds)]
