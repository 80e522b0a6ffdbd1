"""Gathers what a decision about a task is made from."""

from collections.abc import Mapping

from corral.api import MAIN, AgentTaskSpec
from corral_operator.control.memory import Attempt, TaskMemory
from corral_operator.control.pools import Pools
from corral_operator.control.runs import Runs
from corral_operator.control.store import Store
from corral_operator.decisions.observed import Observed
from corral_operator.decisions.task_view import TaskView
from corral_operator.names import cold_pod_name


def observe(task: TaskView, memory: TaskMemory, store: Store, pools: Pools, runs: Runs) -> Observed:
    """Return the world around a task, as it is known now."""
    attempts = {execution.name: execution.attempt for execution in task.status.executions}
    names = _pod_names(task, memory, attempts)
    namespace = task.key.namespace
    pods = {name: pod for name in names if (pod := store.pods.named(namespace, name)) is not None}
    return Observed(
        seen=memory.seen,
        pods=pods,
        absent=frozenset(memory.absent),
        last_seen={
            name: pod for name in names - pods.keys() if (pod := store.last_seen(namespace, name)) is not None
        },
        runs=runs.views(task.key.uid, task.status.executions),
        refusals={
            name: refusal
            for (name, attempt), refusal in memory.refusals.items()
            if attempts.get(name, 1) == attempt
        },
        made=_current(memory.made, attempts),
        assigned=_current(memory.assigned - memory.made, attempts),
        looked_up=frozenset(memory.looked_up),
        position_told=memory.position_told,
        pools=pools.supply(task),
        positions=pools.positions(task),
        kept={name: kept for (name, attempt), kept in memory.kept.items() if attempts.get(name) == attempt},
        logs={name: text for (name, attempt), text in memory.logs.items() if attempts.get(name) == attempt},
    )


def _current(known: set[Attempt], attempts: Mapping[str, int]) -> frozenset[str]:
    return frozenset(name for name, attempt in known if attempts.get(name, 1) == attempt)


def _pod_names(task: TaskView, memory: TaskMemory, attempts: Mapping[str, int]) -> set[str]:
    """Return the names of every pod that this task may have: those in its status, and those made for it."""
    named = {
        execution.sandbox.pod_name
        for execution in task.status.executions
        if execution.sandbox is not None and execution.sandbox.pod_name
    }
    possible = {
        *memory.made,
        *((name, number) for name, attempt in attempts.items() for number in range(1, attempt + 1)),
        *((name, 1) for name in _execution_names(task.spec)),
    }
    return named | {cold_pod_name(task.key.name, task.key.uid, name, attempt) for name, attempt in possible}


def _execution_names(spec: AgentTaskSpec | None) -> tuple[str, ...]:
    if spec is None:
        return ()
    return tuple(step.name for step in spec.steps) or (MAIN,)
