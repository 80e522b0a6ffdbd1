"""What the gateway counts and measures. The first names are those of the Agent Core API, kept to the letter.

Labels come from closed sets: tools of the catalogue, phases, reasons, routes as they are declared.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from corral.api import AgentTask, Phase

#: From a warm start of a built-in tool to the longest task; the first steps tell milliseconds apart.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

_STATUSES = {Phase.SUCCEEDED: "success", Phase.CANCELLED: "cancelled", Phase.FAILED: "failure"}


class Metrics:
    """Every metric of one gateway."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.tasks = Counter("agent_core_tasks", "Tasks that ended", ["mode", "status"], registry=registry)
        self.task_seconds = Histogram(
            "agent_core_task_duration_seconds",
            "From taking a task in to its end",
            ["mode"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.executions = Counter(
            "agent_core_tool_executions", "Executions that ended", ["tool_name", "status"], registry=registry
        )
        self.execution_seconds = Histogram(
            "agent_core_tool_duration_seconds",
            "Wall time of a tool in its sandbox",
            ["tool_name"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.drops = Counter(
            "agent_core_enforcement_drops", "Requests that were refused", ["reason"], registry=registry
        )
        self.allowed = Counter(
            "agent_core_enforcement_allowed", "Requests that were let through", ["outcome"], registry=registry
        )
        self.request_seconds = Histogram(
            "corral_gateway_request_duration_seconds",
            "From a request's first byte to its answer's",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.active_tasks = Gauge(
            "corral_gateway_tasks_active", "Tasks that have not ended", registry=registry
        )
        self.waiting_tasks = Gauge(
            "corral_gateway_tasks_waiting", "Tasks that wait for a place", registry=registry
        )
        self.rate_limited = Counter(
            "corral_gateway_rate_limited",
            "Requests refused, by the limit that was reached",
            ["limit"],
            registry=registry,
        )
        self.rate_store_up = Gauge(
            "corral_gateway_rate_limit_store_up",
            "1: limits are shared with other gateways",
            registry=registry,
        )
        self.rate_store_failures = Counter(
            "corral_gateway_rate_limit_store_failures",
            "Counts that the shared store did not take",
            registry=registry,
        )
        self.reasons = Counter(
            "corral_gateway_executions", "Executions that ended, by reason", ["reason"], registry=registry
        )

    def ended(self, task: AgentTask, _caller: str, seconds: float) -> None:
        """Count a task that ended, and its executions."""
        assert task.status is not None
        mode = "tool" if task.spec.tool is not None else "chain"
        self.tasks.labels(mode, _STATUSES.get(task.status.phase or Phase.FAILED, "failure")).inc()
        self.task_seconds.labels(mode).observe(seconds)
        for execution in task.executions:
            if execution.usage is None:
                continue  # nothing ran; its tool may be any word that somebody wrote
            self.executions.labels(execution.tool, _STATUSES.get(execution.phase, "failure")).inc()
            if execution.usage.wall_seconds is not None:
                self.execution_seconds.labels(execution.tool).observe(execution.usage.wall_seconds)
            if execution.reason is not None:
                self.reasons.labels(execution.reason.value).inc()
