"""What Prometheus is told. Labels come from closed sets, but for namespaces and pools, which people make."""

from prometheus_client import Counter, Gauge, Histogram, Info

from corral import __version__

#: A warm task takes milliseconds, a cold one seconds, a long one minutes.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
_PREFIX = "corral_operator"

Info("corral_build", "What runs here.").info({"component": "operator", "version": __version__})

TASKS_FINISHED = Counter(f"{_PREFIX}_tasks_finished", "Tasks that ended, by reason.", ["reason"])
EXECUTIONS_STARTED = Counter(
    f"{_PREFIX}_executions_started", "Executions given to a sandbox: warm, cold or resized.", ["kind"]
)
TASK_PHASE_SECONDS = Histogram(
    f"{_PREFIX}_task_phase_seconds",
    "Time from the creation of a task until an execution of it was queued, claimed, started, finished.",
    ["phase"],
    buckets=_SECONDS,
)
TASKS_ACTIVE = Gauge(f"{_PREFIX}_tasks_active", "Tasks that have not ended, by phase.", ["phase"])
QUEUE_DEPTH = Gauge(f"{_PREFIX}_queue_depth", "Executions that wait for a sandbox of a pool.")
QUEUE_OLDEST = Gauge(f"{_PREFIX}_queue_oldest_seconds", "How long the longest of them has waited.")
POOL_SANDBOXES = Gauge(
    f"{_PREFIX}_pool_sandboxes",
    "Sandboxes of a pool: waiting (ready or not), ready, claimed.",
    ["namespace", "pool", "state"],
)
POOL_CLAIMS = Counter(
    f"{_PREFIX}_pool_claims",
    "Executions that asked a pool: hit, resized, or miss.",
    ["namespace", "pool", "result"],
)
POOL_REFILLS = Counter(f"{_PREFIX}_pool_refills", "Sandboxes made for a pool.", ["namespace", "pool"])
API_REQUESTS = Counter(
    f"{_PREFIX}_api_requests",
    "Requests to the API server; code none: no answer.",
    ["verb", "resource", "code"],
)
NETWORK_POLICY_ENFORCED = Gauge(
    f"{_PREFIX}_network_policy_enforced", "1: proven at start, 0: nobody enforces, -1: not known."
)
NETWORK_POLICY_ENFORCED.set(-1)
LEADER = Gauge(f"{_PREFIX}_leader", "1 while this replica is the active one.")
RECONCILE_ERRORS = Counter(
    f"{_PREFIX}_reconcile_errors", "Looks at a task or a pool that failed and are repeated.", ["cause"]
)


def count_request(verb: str, resource: str, code: str) -> None:
    """Count a request to the API server."""
    API_REQUESTS.labels(verb, resource, code).inc()
