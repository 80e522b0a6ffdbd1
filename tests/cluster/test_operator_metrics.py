"""M9: the operator's metrics move as things happen; and how little it writes."""

from collections.abc import Mapping

from cluster.api import Api
from cluster.installation import Installation, parse_metrics
from cluster.tenant import Tenant, main_of, reason_of
from eventually import eventually

_WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")


def _sum(metrics: Mapping[str, float], name: str, **labels: str) -> float:
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for key, value in metrics.items()
        if key.partition("{")[0] == name and all(one in key for one in wanted)
    )


def _moved(before: Mapping[str, float], after: Mapping[str, float], name: str, **labels: str) -> float:
    return _sum(after, name, **labels) - _sum(before, name, **labels)


def test_M9_tasks_executions_claims_and_refills_are_counted(warm: Tenant, operator: Installation) -> None:
    warm.pool_is_full(4)
    before = operator.metrics()
    good = [warm.start("calculator", arguments={"expression": "1"}) for _ in range(3)]
    bad = warm.start("calculator", arguments={"expression": "1 / 0"})
    wrong = warm.start("calculator", arguments={})
    assert [reason_of(task) for task in warm.all_ended([bad, wrong])] == ["ToolError", "InvalidArguments"]
    assert {main_of(task)["sandbox"]["warm"] for task in warm.all_ended(good)} == {True}
    warm.pool_is_full(4)
    after = operator.metrics()
    finished = "corral_operator_tasks_finished_total"
    assert _moved(before, after, finished, reason="Completed") == 3
    assert _moved(before, after, finished, reason="ToolError") == 1
    assert _moved(before, after, finished, reason="InvalidArguments") == 1
    assert _moved(before, after, "corral_operator_executions_started_total", kind="warm") == 4
    pool = {"namespace": warm.name, "pool": "pool"}
    assert _moved(before, after, "corral_operator_pool_refills_total", **pool) == 4
    assert _moved(before, after, "corral_operator_pool_claims_total", **pool, result="hit") == 4
    assert _moved(before, after, "corral_operator_task_phase_seconds_count", phase="started") == 4
    assert _sum(after, "corral_operator_leader") == 1
    assert _moved(before, after, "corral_operator_api_requests_total") > 0
    eventually(
        lambda: {
            state: _sum(operator.metrics(), "corral_operator_pool_sandboxes", **pool, state=state)
            for state in ("waiting", "ready", "claimed")
        },
        lambda there: there == {"waiting": 4, "ready": 4, "claimed": 0},
    )


def test_M9_who_waits_is_counted(tenant: Tenant, operator: Installation) -> None:
    tenant.create("SandboxPool", "pool", spec={"replicas": 0, "whenEmpty": "Queue"})
    name = tenant.start("calculator", arguments={"expression": "1"})
    eventually(lambda: operator.metrics()["corral_operator_queue_depth"], lambda depth: depth >= 1)
    eventually(lambda: operator.metrics()["corral_operator_queue_oldest_seconds"], lambda age: age > 1)
    tenant.cancel(name)
    tenant.ended(name)
    eventually(lambda: operator.metrics()["corral_operator_queue_depth"], lambda depth: depth == 0)


def test_M4_a_warm_task_costs_at_most_four_writes_of_ours(
    warm: Tenant, api: Api, operator: Installation
) -> None:
    count = 4
    rounds = [_writes_of(warm, api, operator, count) for _ in range(2)]
    # Two statuses, the end of the used pod and the birth of the next one; in the quieter round, for both counts are
    # over all namespaces, and the one before may still be ending.
    ours = min(sum(writes.values()) for writes, _ in rounds)
    assert 0 < ours <= 4 * count, rounds
    # The API server's own count: the test's creation, two statuses, and one to spare for others that use the cluster.
    assert min(seen for _, seen in rounds) <= 4 * count, rounds


def _writes_of(warm: Tenant, api: Api, operator: Installation, count: int) -> tuple[dict[str, float], float]:
    """Return the operator's writes while so many warm tasks run, and the API server's count of writes to tasks."""
    warm.pool_is_full(4)
    warm.pods.until(lambda seen: len(seen.now) == 4)
    counted, before = operator.metrics(), parse_metrics(api.text("/metrics"))
    for _ in range(count):
        task = warm.run("calculator", arguments={"expression": "1"})
        assert main_of(task)["sandbox"]["warm"] is True
        name = task["metadata"]["name"]
        assert len({version["metadata"]["resourceVersion"] for version in warm.tasks.versions(name)}) <= 3
    after = parse_metrics(api.text("/metrics"))
    warm.pool_is_full(4)
    warm.pods.until(lambda seen: len(seen.now) == 4)
    counts = operator.metrics()
    ours = {
        f"{verb} {resource}": moved
        for resource in ("agenttasks", "pods", "events")
        for verb in ("post", "put", "patch", "delete")
        if (
            moved := _moved(
                counted, counts, "corral_operator_api_requests_total", resource=resource, verb=verb
            )
        )
    }
    seen = sum(
        _moved(before, after, "apiserver_request_total", group="corral.dev", resource="agenttasks", verb=verb)
        for verb in _WRITES
    )
    return ours, seen
