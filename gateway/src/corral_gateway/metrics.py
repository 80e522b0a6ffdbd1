"""What the gateway counts and measures. The first names are those of the Agent Core API, kept to the letter.

Labels come from closed sets: tools that ran, phases, reasons, routes and methods as they are declared.

Absent of the Agent Core API's names, because there is nothing here that they could tell: ``agent_core_task_tokens`` (no
language model yet), ``agent_core_tool_selection_duration_seconds`` (it comes with ``POST /tools/select``),
``agent_core_memory_pool_used_bytes`` and ``_total_bytes`` (each sandbox has its own limit; the gateway's own memory is
``process_resident_memory_bytes``) and ``agent_core_fsm_current_state`` (many tasks at once have no one state;
``corral_gateway_tasks_active`` counts them).
"""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from corral import __version__
from corral.api import MAIN, AgentTask, ExecutionStatus, Phase, SandboxStatus, Tool

#: Requests that read take less than a millisecond, a warm task some of them, the longest task half an hour. Up to 10 ms
#: each millisecond or two can be told apart.
_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 1800),
)
#: Tools are made by people, and a series is never forgotten: so many have a name of their own, the rest is "other".
_MOST_TOOLS = 500

_STATUSES = {Phase.SUCCEEDED: "success", Phase.CANCELLED: "cancelled", Phase.FAILED: "failure"}


class Metrics:
    """Every metric of one gateway."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        build = Info("corral_build", "What runs here", registry=registry)
        build.info({"component": "gateway", "version": __version__})
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
        self.budget_refusals = Counter(
            "corral_gateway_budget_refusals",
            "Tasks refused, by the budget that was used up",
            ["budget"],
            registry=registry,
        )
        self.breakers = Gauge(
            "corral_gateway_breakers",
            "Circuit breakers, of tools and of what runs them, by how they stand",
            ["scope", "state"],
            registry=registry,
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
        self.transitions = Counter(
            "agent_core_fsm_transitions",
            "Phases that tasks went through, counted at their end",
            ["from_state", "to_state"],
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "corral_gateway_task_phase_seconds",
            "queued: from the creation of a task; claimed, started, finished: from queued; each execution",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.sandboxes = Counter(
            "corral_gateway_sandboxes",
            "Sandboxes that executions ran in: warm (waited for one), resized (the same, made larger), cold",
            ["start"],
            registry=registry,
        )
        self.grpc_requests = Counter(
            "agent_core_grpc_requests", "gRPC requests that ended", ["method", "status"], registry=registry
        )
        self.grpc_seconds = Histogram(
            "agent_core_grpc_request_duration_seconds",
            "From a gRPC request to the end of its answer",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.cluster_connected = Gauge(
            "corral_gateway_cluster_connected",
            "1: the cluster tells what happens in it; 0: it does not answer; -1: tasks run on this machine",
            registry=registry,
        )
        self.cluster_connected.set(-1)
        self._tools: set[str] = set()

        self.reused_results = Counter(
            "corral_gateway_results_reused",
            "Calls answered with a result from before",
            ["tool_name"],
            registry=registry,
        )

        self.audit_records = Counter(
            "corral_gateway_audit_records", "Audit records written", ["kind"], registry=registry
        )
        self.audit_failures = Counter(
            "corral_gateway_audit_failures", "Attempts to write the audit that failed", registry=registry
        )
        self.audit_waiting = Gauge(
            "corral_gateway_audit_waiting", "Audit records that wait to be written", registry=registry
        )

    def recorded(self, kind: str, count: int) -> None:
        """Count audit records that were written."""
        self.audit_records.labels(kind).inc(count)

    def audit_failed(self) -> None:
        """Count an attempt to write the audit that failed."""
        self.audit_failures.inc()

    def reused(self, _call: AgentTask, tool: Tool, _caller: str, _task_uid: str, _age_seconds: float) -> None:
        """Count a call that was answered with a result from before."""
        self.reused_results.labels(self._label(tool.name)).inc()

    def ended(self, task: AgentTask, _caller: str, seconds: float) -> None:
        """Count a task that ended, and its executions."""
        assert task.status is not None
        mode = "tool" if task.spec.tool is not None else "chain"
        end = task.status.phase or Phase.FAILED
        self.tasks.labels(mode, _STATUSES.get(end, "failure")).inc()
        self.task_seconds.labels(mode).observe(seconds)
        for from_state, to_state in _transitions(task, end):
            self.transitions.labels(from_state, to_state).inc()
        for execution in task.executions:
            if execution.usage is None:
                continue  # nothing ran; its tool may be any word that somebody wrote
            self._executed(execution, execution.sandbox or task.status.sandbox)
            for phase, lasted in _phases(execution, task.metadata.creation_timestamp):
                self.phase_seconds.labels(phase).observe(lasted)

    def _executed(self, execution: ExecutionStatus, sandbox: SandboxStatus | None) -> None:
        tool = self._label(execution.tool)
        self.executions.labels(tool, _STATUSES.get(execution.phase, "failure")).inc()
        assert execution.usage is not None
        if execution.usage.wall_seconds is not None:
            self.execution_seconds.labels(tool).observe(execution.usage.wall_seconds)
        if execution.reason is not None:
            self.reasons.labels(execution.reason.value).inc()
        if sandbox is not None:
            self.sandboxes.labels("resized" if sandbox.resized else "warm" if sandbox.warm else "cold").inc()

    def _label(self, tool: str) -> str:
        if tool not in self._tools:
            if len(self._tools) >= _MOST_TOOLS:
                return "other"
            self._tools.add(tool)
        return tool


def _transitions(task: AgentTask, end: Phase) -> Iterator[tuple[str, str]]:
    """Return the phases that a task went through, one after the other."""
    if any(one.timings is not None and one.timings.started is not None for one in task.executions):
        yield Phase.PENDING.value, Phase.RUNNING.value
        yield Phase.RUNNING.value, end.value
    else:
        yield Phase.PENDING.value, end.value


def _phases(execution: ExecutionStatus, created: str | None) -> Iterator[tuple[str, float]]:
    """Return how long an execution took to each of its phases, in seconds."""
    times = execution.timings
    if times is None or times.queued is None:
        return
    queued = datetime.fromisoformat(times.queued)
    # An API server's creation time is cut to the second, which tells nothing here. Steps of a chain are queued late.
    if created is not None and "." in created and execution.name == MAIN:
        yield "queued", max(0.0, (queued - datetime.fromisoformat(created)).total_seconds())
    for phase in ("claimed", "started", "finished"):
        text = getattr(times, phase)
        if text is not None:
            yield phase, max(0.0, (datetime.fromisoformat(text) - queued).total_seconds())
