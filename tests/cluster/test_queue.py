"""M4, B3, B4: what happens where nothing waits: a queue that is fair, or a refusal that says when to come back."""

from typing import Any

import pytest

from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of
from cluster.watching import Watch


def _position(seen: Watch, name: str) -> int | None:
    position: int | None = (seen.now.get(name, {}).get("status") or {}).get("queuePosition")
    return position


def _calculate(tenant: Tenant, caller: str = "", **spec: Any) -> str:
    labels = {"corral.dev/caller": caller} if caller else {}
    return tenant.start("calculator", arguments={"expression": "1"}, labels=labels, **spec)


def _order(tenant: Tenant, names: list[str]) -> list[str]:
    tasks = tenant.all_ended(names, seconds=100)
    assert {reason_of(task) for task in tasks} == {"Completed"}
    tasks.sort(key=lambda task: str(main_of(task)["timings"]["claimed"]))
    return [task["metadata"]["name"] for task in tasks]


def test_B3_who_waits_is_told_the_position_and_served_in_turn(tenant: Tenant) -> None:
    """The pool is scaled to zero and back: until then everybody waits."""
    tenant.create(
        "SandboxPool",
        "pool",
        spec={"replicas": 0, "whenEmpty": "Queue", "refill": {"perSecond": 1, "burst": 1}},
    )
    first = _calculate(tenant)
    told = tenant.tasks.until(lambda seen: _position(seen, first))
    assert told == 1
    second = _calculate(tenant)
    assert tenant.tasks.until(lambda seen: _position(seen, second)) == 2
    status = tenant.tasks.now[second]["status"]
    assert status["phase"] == "Pending"
    assert "pool pool" in status["message"]
    urgent = _calculate(tenant, priority=10)
    assert tenant.tasks.until(lambda seen: _position(seen, urgent)) == 1
    tenant.tasks.until(lambda seen: _position(seen, first) == 2 and _position(seen, second) == 3)
    tenant.kubectl("scale", "sandboxpool/pool", "--replicas=1")
    assert _order(tenant, [first, second, urgent]) == [urgent, first, second]
    assert "queuePosition" not in tenant.tasks.now[second]["status"]


@pytest.fixture
def gateway(tenant: Tenant, operator: Installation) -> str:
    """Return the account that may say for whom a task runs, and let it create tasks."""
    name = f"{operator.name.removesuffix('-operator')}-gateway"
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["corral.dev"], "resources": ["agenttasks"], "verbs": ["create"]}]
    about = {"apiVersion": f"{group}/v1", "metadata": {"name": "gateway"}}
    tenant.api.create({**about, "kind": "Role", "rules": rules}, tenant.name)
    role = {"apiGroup": group, "kind": "Role", "name": "gateway"}
    account = {"kind": "ServiceAccount", "name": name, "namespace": operator.namespace}
    tenant.api.create({**about, "kind": "RoleBinding", "roleRef": role, "subjects": [account]}, tenant.name)
    return f"system:serviceaccount:{operator.namespace}:{name}"


def test_B4_a_caller_with_many_tasks_holds_up_another_by_one(tenant: Tenant, gateway: str) -> None:
    tenant.create(
        "SandboxPool",
        "pool",
        spec={"replicas": 0, "whenEmpty": "Queue", "refill": {"perSecond": 2, "burst": 1}},
    )
    # Whatever priority they give themselves.
    flood = [_calculate(tenant, "flood", user=gateway, priority=1000) for _ in range(4)]
    tenant.tasks.until(lambda seen: all(_position(seen, name) for name in flood))
    modest = [_calculate(tenant, "modest", user=gateway) for _ in range(1)]
    tenant.tasks.until(lambda seen: all(_position(seen, name) for name in modest))
    tenant.kubectl("scale", "sandboxpool/pool", "--replicas=1")
    served = _order(tenant, flood + modest)
    assert served.index(modest[0]) <= 1, served


def test_B3_a_waiting_task_can_be_cancelled_and_runs_out_of_time(tenant: Tenant) -> None:
    tenant.create("SandboxPool", "pool", spec={"replicas": 0, "whenEmpty": "Queue"})
    cancelled, late = _calculate(tenant), _calculate(tenant, activeDeadlineSeconds=5)
    tenant.tasks.until(lambda seen: _position(seen, cancelled))
    tenant.cancel(cancelled)
    assert reason_of(tenant.ended(cancelled)) == "Cancelled"
    assert reason_of(tenant.ended(late)) == "DeadlineExceeded"
    assert tenant.api.list("Pod", tenant.name) == []


def test_B3_a_pool_that_refuses_says_when_to_come_back(tenant: Tenant, operator: Installation) -> None:
    tenant.create("SandboxPool", "pool", spec={"replicas": 0, "whenEmpty": "Refuse"})
    tenant.pool_is_full(0)
    _ = tenant.pods
    task = tenant.ended(_calculate(tenant))
    assert reason_of(task) == "QuotaExceeded"
    assert task["status"]["retryAfterSeconds"] > 0
    assert "whenEmpty is Refuse" in task["status"]["message"]
    assert tenant.pods.names() == set()


def test_M4_an_empty_pool_that_does_neither_gives_a_cold_pod(tenant: Tenant) -> None:
    tenant.create("SandboxPool", "pool", spec={"replicas": 0, "whenEmpty": "Cold"})
    assert main_of(tenant.ended(_calculate(tenant)))["sandbox"]["warm"] is False
