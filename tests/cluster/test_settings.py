"""B7, B14, M2: what an operator with other settings does: user namespaces, late secrets, whole reservations."""

import json
from collections.abc import Iterator

import pytest

from cluster.api import Api
from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of

_GROUP = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module", autouse=True)
def _other_settings(operator: Installation) -> Iterator[None]:
    with operator.with_settings(
        CORRAL_HOST_USERS="false",
        CORRAL_POD_START_SECONDS="20",
        CORRAL_CPU_REQUEST_FRACTION="1",
        CORRAL_LATE_SECRETS='["*"]',
    ):
        yield


def test_B14_with_user_namespaces_root_in_the_sandbox_is_nobody_on_the_node(tenant: Tenant) -> None:
    _ = tenant.pods
    code = "import json; print(json.dumps(open('/proc/self/uid_map').read().split()))"
    main = main_of(tenant.ended(tenant.python(code, limits={"cpu": "100m"})))
    assert main["reason"] == "Completed", main
    inside, outside, count = map(int, json.loads(main["output"]["stdout"]))
    assert inside == 0
    assert outside >= 65536
    assert count < 1 << 32
    assert "userns" in main["sandbox"]["isolation"]
    assert tenant.pods.versions(main["sandbox"]["podName"])[-1]["spec"]["hostUsers"] is False


def test_B2_Unschedulable_says_what_the_scheduler_says(tenant: Tenant) -> None:
    name = tenant.start("calculator", arguments={"expression": "1"}, limits={"cpu": "8"})
    task = tenant.ended(name, seconds=60)
    assert reason_of(task) == "Unschedulable", task["status"]
    assert "Insufficient cpu" in task["status"]["message"]
    tenant.no_pod_left()


def test_B7_secrets_bind_late_where_the_operator_may_read_them(
    tenant: Tenant, api: Api, operator: Installation
) -> None:
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    version = f"{_GROUP}/v1"
    api.create(
        {"apiVersion": version, "kind": "Role", "metadata": {"name": "late"}, "rules": rules}, tenant.name
    )
    account = {"kind": "ServiceAccount", "name": operator.account, "namespace": operator.namespace}
    binding = {
        "apiVersion": version,
        "kind": "RoleBinding",
        "metadata": {"name": "late"},
        "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": "late"},
        "subjects": [account],
    }
    api.create(binding, tenant.name)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"token": "s3cr3t-canary"},
    }
    api.create(secret, tenant.name)
    tenant.pool(1, resources={"cpu": "100m"})
    name = tenant.python(
        "import os; print(len(os.environ['TOKEN']))",
        limits={"cpu": "100m"},
        secretRefs=[{"name": "mine", "key": "token", "env": "TOKEN"}],
    )
    main = main_of(tenant.ended(name))
    assert (main["output"]["stdout"], main["sandbox"]["warm"]) == ("13\n", True), main
    assert "s3cr3t-canary" not in str(tenant.tasks.versions(name)) + str(tenant.pods.history)
