"""S1, A11: the chart's gateway on a real cluster: its first key, a task, what it may reach and who may reach it.

The cluster's nodes must have the images; ``python -m rig`` loads them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chart.cluster import Refused, get, helm, kubectl, namespace, try_out
from cluster.gateway_release import Release, image_of_python
from cluster.plain_pod import plain_pod, wait_until_ready
from eventually import eventually

pytestmark = pytest.mark.timeout(600)

TASK = {"tool": "calculator", "arguments": {"expression": "6*7"}}
#: The pods that are let in.
CALLS = {"calls": "gateway"}
#: Connects, and says how that went; a policy that drops is seen by time.
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except OSError:
    print("closed")
"""
#: Asks the API server with the pod's own token, and prints the status.
_ASK = """
import ssl, sys, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
request = urllib.request.Request(
    "https://kubernetes.default.svc" + sys.argv[2],
    method=sys.argv[1],
    data=b"{}" if sys.argv[1] in {"POST", "PATCH"} else None,
    headers={"Authorization": "Bearer " + open(folder + "token").read(), "Content-Type": sys.argv[3]},
)
try:
    context = ssl.create_default_context(cafile=folder + "ca.crt")
    print(urllib.request.urlopen(request, context=context, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
_EMPTY = """
import pathlib, shutil
for path in pathlib.Path("/var/lib/corral").iterdir():
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
"""


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    with namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        release = Release(name)
        try:
            release.install(clients=[{"podSelector": {"matchLabels": CALLS}}])
            yield release
        finally:
            release.uninstall()


@pytest.fixture(scope="module")
def key(release: Release) -> str:
    return release.corral("keys", "create", "admin", "--role", "admin")


def test_A11_the_first_key_is_made_by_exec_and_runs_a_task_through_the_service(
    release: Release, key: str
) -> None:
    with release.forwarded(8000) as url:
        health = httpx.get(f"{url}/health").json()
        assert health["status"] == "healthy"
        assert httpx.post(f"{url}/v1/tasks", json=TASK).status_code == 401
        answer = httpx.post(
            f"{url}/v1/tasks", params={"wait": "60s"}, json=TASK, headers={"X-API-Key": key}, timeout=90
        )
    task = answer.json()
    assert (answer.status_code, task["status"]["reason"]) == (201, "Completed"), answer.text
    assert task["status"]["executions"][0]["result"] == 42
    # It is an AgentTask like any other, and says whose it is.
    found = get("agenttasks.corral.dev", task["metadata"]["name"], release.namespace)
    assert found["metadata"]["labels"]["corral.dev/caller"] == "admin"
    # Neither what was printed at the start nor the lines of requests show a key.
    assert re.search(r"corral_[0-9a-f]{12}_", release.log()) is None


def test_M10_nobody_but_the_gateway_says_for_whom_a_task_runs(release: Release) -> None:
    task = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "somebody", "labels": {"corral.dev/caller": "admin"}},
        "spec": TASK,
    }
    with pytest.raises(Refused, match="set by Corral's gateway alone"):
        try_out(task, namespace=release.namespace)
    account = f"system:serviceaccount:{release.namespace}:corral-gateway"
    try_out(task, user=account, namespace=release.namespace)


def test_M9_its_metrics_are_scraped_and_have_counted(release: Release, key: str) -> None:
    with release.forwarded(8000) as url:
        httpx.post(
            f"{url}/v1/tasks", params={"wait": "60s"}, json=TASK, headers={"X-API-Key": key}, timeout=90
        )
    with release.forwarded(2113, f"pod/{release.pod()['metadata']['name']}") as url:
        text = httpx.get(f"{url}/metrics").text
    assert 'corral_build_info{component="gateway"' in text
    counted = re.search(r'agent_core_tasks_total\{mode="tool",status="success"\} (\S+)', text)
    assert counted is not None
    assert float(counted[1]) >= 1
    for phase in ("claimed", "started", "finished"):
        assert f'corral_gateway_task_phase_seconds_count{{phase="{phase}"}}' in text
    assert re.search(r'corral_gateway_sandboxes_total\{start="(warm|cold|resized)"\}', text)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apis/corral.dev/v1alpha1/namespaces/{}/agenttasks", 200),
        ("GET", "/apis/corral.dev/v1alpha1/namespaces/{}/tools", 200),
        ("GET", "/apis/corral.dev/v1alpha1/agenttasks", 403),
        ("PATCH", "/apis/corral.dev/v1alpha1/namespaces/{}/agenttasks/some/status", 403),
        ("DELETE", "/apis/corral.dev/v1alpha1/namespaces/{}/agenttasks/some", 403),
        ("GET", "/api/v1/namespaces/{}/pods", 403),
        ("GET", "/api/v1/namespaces/{}/secrets", 403),
        ("GET", "/api/v1/namespaces/{}/secrets/corral-runner-key", 403),
        ("POST", "/api/v1/namespaces/{}/pods", 403),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings", 403),
    ],
)
def test_M10_with_its_own_token_it_may_do_its_work_and_nothing_else(
    release: Release, method: str, path: str, status: int
) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    assert release.python(_ASK, method, path.format(release.namespace), kind) == str(status)


def test_M3_who_is_let_in_gets_in_and_nobody_else(release: Release) -> None:
    address = release.pod()["status"]["podIP"]
    with (
        _pod(release.namespace, "caller", CALLS) as caller,
        _pod(release.namespace, "stranger", {}) as stranger,
    ):
        # The policy of a pod comes a moment after the pod.
        eventually(lambda: _connects(release.namespace, stranger, address, 8000), lambda now: not now)
        for port in (8000, 50051):
            assert not _connects(release.namespace, stranger, address, port)
        assert _connects(release.namespace, caller, address, 8000)
        # The default lets every pod of the cluster read metrics.
        assert _connects(release.namespace, stranger, address, 2113)
        # Counter-proof: it is the policy that keeps the stranger out.
        policy = ("networkpolicy", "corral-gateway", "--namespace", release.namespace)
        kept = json.loads(kubectl("get", *policy, "-o", "json"))
        kubectl("delete", *policy)
        try:
            eventually(lambda: _connects(release.namespace, stranger, address, 8000), seconds=30)
        finally:
            kubectl("create", "-f", "-", stdin=_bare(kept))
        eventually(
            lambda: _connects(release.namespace, stranger, address, 8000), lambda now: not now, seconds=30
        )


def test_M3_it_reaches_the_api_server_and_no_other_pod(release: Release) -> None:
    selector = ("-l", "app.kubernetes.io/component=operator")
    found = json.loads(kubectl("get", "pods", "--namespace", release.namespace, *selector, "-o", "json"))
    operator = found["items"][0]["status"]["podIP"]
    assert release.python(_CONNECT, "kubernetes.default.svc", "443") == "open"
    # The operator's health port is open to everybody: what holds is the gateway's own policy.
    assert release.python(_CONNECT, operator, "8080") == "closed"
    with _pod(release.namespace, "other", {}) as other:
        assert _connects(release.namespace, other, operator, 8080)


def test_A11_helm_test_runs_a_task_through_the_gateway(release: Release) -> None:
    key = release.corral("keys", "create", "helm-test", "--role", "runner")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tester"},
        "stringData": {"key": key},
    }
    kubectl("create", "--namespace", release.namespace, "-f", "-", stdin=secret)
    where = ("--namespace", release.namespace)
    told = helm("test", "corral", *where, "--timeout", "240s")
    assert told.count("Phase:          Succeeded") >= 2
    assert "Failed" not in told


def test_A11_keys_outlive_pod_upgrade_and_release_on_a_volume(volume: str) -> None:
    release = Release(volume)
    try:
        release.install(database={})
        key = release.corral("keys", "create", "admin", "--role", "admin")
        assert _opens(release, key)
        release.install(upgrade=True, database={}, podAnnotations={"example.com/turn": "2"})
        assert _opens(release, key)
        release.uninstall()
        claim = get("persistentvolumeclaim", "corral-gateway-data", volume)
        assert claim["status"]["phase"] == "Bound"
        release.install(database={})
        assert _opens(release, key)
        release.python(_EMPTY)  # the node keeps the directory
    finally:
        release.uninstall()


# --- what the tests need ---


@pytest.fixture
def volume() -> Iterator[str]:
    """Return a namespace whose claim finds a volume: on a node, where the cluster provides none by itself."""
    with namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        found: Any = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"corral-{name}"},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": name, "name": "corral-gateway-data"},
                "storageClassName": _default_class(),
                # Kubelet gives it to the pod's group; a hostPath would stay root's.
                "local": {"path": "/mnt"},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {
                                        "key": "kubernetes.io/hostname",
                                        "operator": "In",
                                        "values": [_worker()],
                                    }
                                ]
                            }
                        ]
                    }
                },
            },
        }
        kubectl("create", "-f", "-", stdin=found)
        try:
            yield name
        finally:
            kubectl("delete", "persistentvolume", f"corral-{name}", "--wait=false")


def _default_class() -> str:
    mark = "storageclass.kubernetes.io/is-default-class"
    classes = json.loads(kubectl("get", "storageclasses", "-o", "json"))["items"]
    names = [
        each["metadata"]["name"]
        for each in classes
        if (each["metadata"].get("annotations") or {}).get(mark) == "true"
    ]
    return names[0] if names else ""


def _worker() -> str:
    """Return a node that takes ordinary pods."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    free = [each for each in nodes if not each["spec"].get("taints")]
    assert free, "no node without taints"
    return str(free[0]["metadata"]["labels"]["kubernetes.io/hostname"])


def _opens(release: Release, key: str) -> bool:
    with release.forwarded(8000) as url:
        return httpx.get(f"{url}/v1/tools", headers={"X-API-Key": key}, timeout=30).status_code == 200


class _pod:  # noqa: N801 - used as a function
    """A pod that can be told to connect; deleted in the end."""

    def __init__(self, where: str, name: str, labels: dict[str, str]) -> None:
        self._where, self._name, self._labels = where, name, labels

    def __enter__(self) -> str:
        command = ["python3", "-c", "import signal; signal.pause()"]
        body = plain_pod(self._name, self._labels, image_of_python(), command)
        kubectl("create", "--namespace", self._where, "-f", "-", stdin=body)
        wait_until_ready(self._where, self._name)
        return self._name

    def __exit__(self, *_: object) -> None:
        kubectl("delete", "pod", "--namespace", self._where, self._name, "--wait=false")


def _connects(where: str, pod: str, address: str, port: int) -> bool:
    inside = ("python3", "-c", _CONNECT, address, str(port))
    return kubectl("exec", "--namespace", where, pod, "--", *inside).strip() == "open"


def _bare(found: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    return {**{key: found[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata}
