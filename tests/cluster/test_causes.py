"""B2: what Kubernetes does to a sandbox's pod becomes a reason of its own, with words for a person."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.api import Api, ApiError, Object
from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of
from cluster.watching import Watch
from eventually import eventually

ABSENT = "registry.invalid/no/such-image:1"
PARTIAL = "echo partial; touch begun; sleep 300"


def test_B2_ImagePullFailed_names_the_image_in_tasks_and_pools(tenant: Tenant) -> None:
    _ = tenant.pods
    for name, runner in (("absent", True), ("absent-plain", False)):
        command = {"image": ABSENT, "hasRunner": runner, "argv": ["true"]}
        tenant.tool(name, permissions=["read", "execute"], run={"command": command})
    names = [tenant.start("absent"), tenant.start("absent-plain")]
    _ = tenant.pools
    tenant.create("SandboxPool", "pool", spec={"replicas": 2, "image": ABSENT})
    for task in tenant.all_ended(names, seconds=110):
        assert reason_of(task) == "ImagePullFailed", task["status"]
        assert ABSENT in task["status"]["message"]

    def told(seen: Watch) -> bool:
        conditions = (seen.now["pool"].get("status") or {}).get("conditions") or [{}]
        return conditions[0].get("reason") == "ImagePullFailed" and ABSENT in conditions[0]["message"]

    tenant.pools.until(told, seconds=60)
    tenant.kubectl("delete", "sandboxpool", "pool")
    tenant.no_pod_left()
    assert tenant.pods.most_at_once() <= 4


def test_B2_QuotaExceeded_names_the_quota_and_when_to_come_back(tenant: Tenant) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    }
    tenant.api.create(quota, tenant.name)

    def counted() -> bool:
        return "hard" in tenant.api.get("ResourceQuota", tenant.name, "small").get("status", {})

    eventually(counted)
    _ = tenant.pods
    task = tenant.run("calculator", arguments={"expression": "1"})
    assert reason_of(task) == "QuotaExceeded"
    assert "small" in task["status"]["message"]
    assert task["status"]["retryAfterSeconds"] > 0
    assert tenant.pods.names() == set()


@contextmanager
def _rule(api: Api, namespace: str) -> Iterator[str]:
    """Refuse sandbox pods in a namespace, as whoever runs a cluster may do."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    group = "admissionregistration.k8s.io/v1"
    rules = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy: Object = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rules]},
            "validations": [{"expression": "false", "message": "no pods on a Sunday"}],
        },
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding: Object = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": selector},
        },
    }
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {
            "containers": [{"name": "a", "image": "a", "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }  # fmt: skip

    def holds() -> bool:
        try:
            api.create(probe, namespace, dry=True)
        except ApiError as error:
            return "Sunday" in error.message
        return False

    api.create(policy)
    api.create(binding)
    try:
        eventually(holds, seconds=30)
        yield name
    finally:
        api.delete(binding["kind"], "", name)
        api.delete(policy["kind"], "", name)


def test_B2_AdmissionRefused_names_the_rule(tenant: Tenant) -> None:
    with _rule(tenant.api, tenant.name) as rule:
        task = tenant.run("calculator", arguments={"expression": "1"})
        assert reason_of(task) == "AdmissionRefused"
        assert rule in task["status"]["message"]
        assert "no pods on a Sunday" in task["status"]["message"]
        tenant.create("SandboxPool", "pool", spec={"replicas": 1})

        def told(seen: Watch) -> bool:
            conditions = (seen.now["pool"].get("status") or {}).get("conditions") or [{}]
            return conditions[0].get("reason") == "AdmissionRefused" and rule in conditions[0]["message"]

        tenant.pools.until(told)


def test_B2_Evicted_for_a_drain_keeps_what_was_printed(warm: Tenant) -> None:
    cold = warm.shell(PARTIAL, limits={"memory": "600Mi", "timeout": "300s"})
    hot = warm.shell(PARTIAL, limits={"timeout": "300s"})
    for name, is_warm in ((cold, False), (hot, True)):
        pod = warm.has_begun(name)
        assert warm.tasks.now[name]["status"]["sandbox"]["warm"] is is_warm
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": warm.name},
        }
        warm.api.request("POST", f"/api/v1/namespaces/{warm.name}/pods/{pod}/eviction", eviction)
    for name in (cold, hot):
        task = warm.ended(name, seconds=40)
        assert reason_of(task) == "Evicted", task["status"]
        assert main_of(task)["sandbox"]["podName"] in task["status"]["message"]
        assert main_of(task)["output"]["stdout"] == "partial\n"


def test_B2_a_pod_that_somebody_deletes_is_told_from_a_cancel(warm: Tenant) -> None:
    hot = warm.shell(PARTIAL, limits={"timeout": "300s"})
    pod = warm.has_begun(hot)
    warm.kubectl("delete", "pod", pod, "--wait=false")
    task = warm.ended(hot, seconds=40)
    assert reason_of(task) == "SandboxFailed"
    assert "deleted by somebody" in task["status"]["message"]
    assert task["status"]["phase"] == "Failed"
    assert main_of(task)["output"]["stdout"] == "partial\n"


def test_B2_OutOfMemory_by_the_kernel_where_no_runner_looks(tenant: Tenant, operator: Installation) -> None:
    hoard = "hoard = []\nwhile True: hoard.append(bytearray(b'x' * (1 << 20)))"
    image = operator.settings["CORRAL_SANDBOX_IMAGE"]
    command = {"image": image, "argv": ["python3", "-c", hoard]}
    tenant.tool("hoarder", permissions=["read", "execute"], run={"command": command})
    task = tenant.run("hoarder", limits={"memory": "48Mi"})
    assert reason_of(task) == "OutOfMemory", task["status"]
    assert "limits.memory" in task["status"]["message"]


def test_B2_the_same_name_again_while_the_old_pod_ends(tenant: Tenant) -> None:
    first = tenant.shell(PARTIAL, name="again", limits={"timeout": "300s"})
    old = tenant.running(first)["status"]["sandbox"]["podUID"]
    tenant.kubectl("delete", "at", "again")
    tenant.python("'another'", name="again")

    def ended(seen: Watch) -> Object | None:
        task = seen.now.get("again") or {}
        done = (task.get("status") or {}).get("completionTime")
        return task if done else None

    task = tenant.tasks.until(ended, seconds=60)
    assert task is not None
    assert main_of(task)["result"] == "another"
    assert main_of(task)["sandbox"]["podUID"] != old
