"""What Prometheus learns from a status that was written, and what it need not hear of any more."""

from collections.abc import Set as AbstractSet
from datetime import datetime

from corral_operator.decisions.actions import Plan
from corral_operator.decisions.task_view import TaskView
from corral_operator.metrics import (
    EXECUTIONS_STARTED,
    POOL_CLAIMS,
    POOL_REFILLS,
    POOL_SANDBOXES,
    TASK_PHASE_SECONDS,
    TASKS_FINISHED,
)


def measure(task: TaskView, plan: Plan) -> None:
    """Count what a plan's status says: sandboxes taken, and, at the end, the reason and how long each phase took."""
    status = plan.status
    assert status is not None
    claimed = dict(plan.claims)
    for execution in status.executions:
        if execution.name in claimed and execution.sandbox is not None:
            resized = bool(execution.sandbox.resized)
            EXECUTIONS_STARTED.labels("resized" if resized else "warm").inc()
            pool = plan.pools.get(execution.name)
            if pool is not None:
                POOL_CLAIMS.labels(task.key.namespace, pool, "resized" if resized else "hit").inc()
    if status.reason is None:
        return
    TASKS_FINISHED.labels(status.reason.value).inc()
    for execution in status.executions:
        times = execution.timings
        if times is None or times.queued is None:
            continue
        for phase in ("claimed", "started", "finished"):
            text = getattr(times, phase)
            if text is not None:
                seconds = (
                    datetime.fromisoformat(text) - datetime.fromisoformat(times.queued)
                ).total_seconds()
                TASK_PHASE_SECONDS.labels(phase).observe(max(0.0, seconds))


def forget_pools_but(there: AbstractSet[tuple[str, str]]) -> None:
    """Drop the series of pools that are no more: their names come from people, and may be new every day.

    Args:
        there: namespace and name of each pool.
    """
    for metric in (POOL_SANDBOXES, POOL_CLAIMS, POOL_REFILLS):
        # A counter has two samples of each, one of them when it was made.
        series = {tuple(one.labels.items()) for family in metric.collect() for one in family.samples}
        for labels in map(dict, series):
            if (labels["namespace"], labels["pool"]) not in there:
                metric.remove(*labels.values())
