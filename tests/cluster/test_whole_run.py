"""M4, B13: what holds over all that the suite has run, and over some more that is run here."""

from collections import Counter

import pytest

from cluster.api import Object
from cluster.installation import Installation
from cluster.tenant import Tenant, main_of
from cluster.watching import Watch


@pytest.fixture
def executions(warm: Tenant, all_tenants: list[Tenant]) -> list[Object]:
    """Return all executions that were given to a sandbox, each once, with its task's UID."""
    names = [warm.start("calculator", arguments={"expression": "1"}) for _ in range(12)]
    assert {main_of(task)["reason"] for task in warm.all_ended(names)} == {"Completed"}
    found = {}
    for tenant in all_tenants:
        for _, task in tenant.tasks.history if "tasks" in tenant.__dict__ else ():
            for execution in (task.get("status") or {}).get("executions", ()):
                if execution.get("sandbox", {}).get("podUID"):
                    key = task["metadata"]["uid"], execution["name"], execution["attempt"]
                    found[key] = {**execution, "task": task["metadata"]["uid"]}
    return list(found.values())


def test_M4_no_sandbox_ever_served_twice(executions: list[Object]) -> None:
    used = Counter(execution["sandbox"]["podUID"] for execution in executions)
    assert len(used) >= 12
    assert [pod for pod, times in used.items() if times > 1] == []


def test_M4_a_used_sandbox_is_gone(warm: Tenant, executions: list[Object]) -> None:
    used = {execution["sandbox"]["podUID"] for execution in executions if execution.get("reason")}

    def gone(seen: Watch) -> bool:
        return not {pod["metadata"]["uid"] for pod in seen.now.values()} & used

    warm.pods.until(gone)


def test_B13_an_end_is_never_taken_back(executions: list[Object], all_tenants: list[Tenant]) -> None:
    """A reason, once written, stays: nobody who has read it is told another."""
    for tenant in all_tenants:
        ends: dict[str, set[str]] = {}
        for _, task in tenant.tasks.history if "tasks" in tenant.__dict__ else ():
            reason = (task.get("status") or {}).get("reason")
            known = ends.setdefault(task["metadata"]["uid"], set())
            assert reason is not None or not known, task["metadata"]["name"]
            known |= {reason} if reason else set()
            assert len(known) <= 1, (task["metadata"]["name"], known)


def test_M9_no_look_of_the_operator_failed_by_a_mistake_of_its_own(operator: Installation) -> None:
    """What the API server refuses is a ClusterError and looked at again; whatever else is a bug."""
    prefix = "corral_operator_reconcile_errors_total"
    failed = {key: value for key, value in operator.metrics().items() if key.startswith(prefix + "{")}
    ordinary = {
        f'{prefix}{{cause="{error}"}}'
        for error in ("Conflict", "NotFound", "Refused", "Sweep", "Unavailable")
    }
    assert {key: value for key, value in failed.items() if key not in ordinary} == {}
