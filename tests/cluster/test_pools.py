"""M4, B7: sandboxes that wait: hit, used once, refilled at a pace, scaled, drained, given more."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from cluster.api import Object
from cluster.tenant import Tenant, main_of, reason_of
from cluster.watching import Watch


@pytest.fixture(scope="module")
def pooled(new_tenant: Callable[[], Tenant]) -> Iterator[Tenant]:
    """Return a namespace with a pool of four that lets nobody wait."""
    tenant = new_tenant()
    tenant.pool(4, whenEmpty="Cold", refill={"perSecond": 2, "burst": 4})
    yield tenant
    tenant.delete()


def calculate(tenant: Tenant, **spec: Any) -> str:
    return tenant.start("calculator", arguments={"expression": "6 * 7"}, **spec)


def test_M4_a_warm_task_starts_no_pod_and_takes_one_that_waited(pooled: Tenant) -> None:
    pooled.pool_is_full(4)
    waiting = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pooled.pods.current()}
    task = pooled.ended(calculate(pooled))
    sandbox = main_of(task)["sandbox"]
    assert (main_of(task)["result"], sandbox["warm"]) == (42, True)
    assert waiting[sandbox["podName"]] == sandbox["podUID"]
    times = {what: datetime.fromisoformat(when) for what, when in main_of(task)["timings"].items()}
    assert (times["started"] - times["queued"]).total_seconds() < 1


def test_M4_a_burst_of_three_pools_makes_no_pod_too_many(new_tenant: Callable[[], Tenant]) -> None:
    tenant = new_tenant()
    replicas, burst = 3, 9
    tenant.pool(replicas, whenEmpty="Queue", refill={"perSecond": 2, "burst": 2})
    names = [calculate(tenant) for _ in range(burst)]
    ended = tenant.all_ended(names, seconds=110)
    assert {(reason_of(task), main_of(task)["sandbox"]["warm"]) for task in ended} == {("Completed", True)}
    tenant.pool_is_full(replicas)
    # One pod for each task, and those that wait again at the end: not one more was ever made.
    assert len(tenant.pods.names()) == burst + replicas
    waiting = _most_waiting(tenant, {main_of(task)["sandbox"]["podName"]: task for task in ended})
    assert waiting <= replicas, f"{waiting} sandboxes waited at once, {replicas} were asked for"
    born = sorted(
        datetime.fromisoformat(tenant.pods.versions(name)[0]["metadata"]["creationTimestamp"]).timestamp()
        for name in tenant.pods.names()
    )[replicas:]
    # Two at once and two a second, by the API server's clock in whole seconds.
    assert len(born) <= (born[-1] - born[0] + 1) * 2 + 2
    tenant.delete()


def _most_waiting(tenant: Tenant, used: dict[str, Object]) -> int:
    """Return how many pods there were at once that no task had been given, at most."""
    claimed = {name: main_of(task)["timings"]["claimed"] for name, task in used.items()}
    there: set[str] = set()
    most = 0
    for kind, pod in tenant.pods.history:
        name = pod["metadata"]["name"]
        (there.discard if kind == "DELETED" else there.add)(name)
        if kind == "ADDED":
            born = pod["metadata"]["creationTimestamp"]
            most = max(most, sum(1 for one in there if claimed.get(one, "9") > born))
    return most


def test_M4_kubectl_scale_makes_the_pool_larger_and_smaller(new_tenant: Callable[[], Tenant]) -> None:
    tenant = new_tenant()
    tenant.pool(1)
    tenant.kubectl("scale", "sandboxpool/pool", "--replicas=3")
    tenant.pool_is_full(3)
    scale = tenant.api.request(
        "GET", f"/apis/corral.dev/v1alpha1/namespaces/{tenant.name}/sandboxpools/pool/scale"
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    selected = tenant.api.list("Pod", tenant.name, labelSelector=scale["status"]["selector"])
    assert len(selected) == 3
    tenant.kubectl("scale", "sandboxpool/pool", "--replicas=0")
    tenant.no_pod_left()
    assert tenant.pool_is_full(0)["status"]["conditions"][0]["reason"] == "ScaledToZero"
    assert main_of(tenant.ended(calculate(tenant)))["sandbox"]["warm"] is False
    tenant.delete()


def test_M4_an_autoscaler_scales_the_pool(new_tenant: Callable[[], Tenant]) -> None:
    """Below its least number it scales without any metric, so that no metrics server is needed here."""
    tenant = new_tenant()
    tenant.pool(1)
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "pool"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "corral.dev/v1alpha1", "kind": "SandboxPool", "name": "pool"},
            "minReplicas": 2,
            "maxReplicas": 3,
        },
    }
    tenant.kubectl("create", "-f", "-", stdin=json.dumps(autoscaler))
    tenant.pool_is_full(2)
    found = json.loads(tenant.kubectl("get", "hpa", "pool", "-o", "json"))
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions["AbleToScale"] == "True", found["status"]


def test_M4_another_template_drains_the_pool_and_a_running_task_goes_on(
    new_tenant: Callable[[], Tenant],
) -> None:
    tenant = new_tenant()
    tenant.pool(2)
    old = tenant.pods.names()
    running = tenant.python("import time; time.sleep(6); 'went on'", limits={"timeout": "60s"})
    tenant.running(running)
    change = {"spec": {"resources": {"memory": "256Mi"}}}
    tenant.api.patch("SandboxPool", tenant.name, "pool", change)

    def drained(seen: Watch) -> bool:
        mine = [
            p
            for p in seen.now.values()
            if p["metadata"]["name"] != main_of(tenant.tasks.now[running])["sandbox"]["podName"]
        ]
        return len(mine) == 2 and not {p["metadata"]["name"] for p in mine} & old

    tenant.pods.until(drained, seconds=60)
    task = tenant.ended(running)
    assert (reason_of(task), main_of(task)["result"]) == ("Completed", "went on")
    tenant.pool_is_full(2)
    tenant.delete()


def test_B7_limits_are_tighter_by_the_runner_and_larger_by_resize_or_a_cold_pod(
    new_tenant: Callable[[], Tenant],
) -> None:
    tenant = new_tenant()
    tenant.pool(2, whenLarger="Resize", resources={"cpu": "500m", "memory": "128Mi", "disk": "32Mi"})
    tight = tenant.python("bytearray(100 << 20)", limits={"memory": "32Mi", "disk": "16Mi", "cpu": "500m"})
    main = main_of(tenant.ended(tight))
    assert (main["reason"], main["sandbox"]["warm"]) == ("OutOfMemory", True)
    assert "resized" not in main["sandbox"]
    tenant.pool_is_full(2)
    code = "import time; data = bytearray(180 << 20); time.sleep(3); len(data)"
    large = tenant.python(code, limits={"memory": "256Mi", "disk": "16Mi", "cpu": "1"})
    pod = tenant.running(large)["status"]["sandbox"]["podName"]

    def resized(seen: Watch) -> bool:
        container = (seen.now.get(pod) or {"spec": {"containers": [{}]}})["spec"]["containers"][0]
        return bool(container.get("resources", {}).get("limits", {}).get("cpu") == "1")

    tenant.pods.until(resized)
    main = main_of(tenant.ended(large))
    assert (main["reason"], main.get("result")) == ("Completed", 180 << 20), main
    assert (main["sandbox"]["warm"], main["sandbox"]["resized"]) == (True, True)
    before, after = (
        tenant.pods.versions(pod)[place]["spec"]["containers"][0]["resources"] for place in (0, -1)
    )
    assert (before["limits"]["cpu"], after["limits"]["cpu"]) == ("500m", "1")
    tenant.pool_is_full(2)
    disk = tenant.start(
        "calculator", arguments={"expression": "1"}, limits={"disk": "64Mi", "memory": "64Mi", "cpu": "500m"}
    )
    assert main_of(tenant.ended(disk))["sandbox"]["warm"] is False
    tenant.delete()
