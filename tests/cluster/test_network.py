"""M3: what runs in a pod reaches nothing; with the runner's filter and without it, and the proof that it could."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.api import Api, Object
from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of
from eventually import eventually

REPOSITORY = Path(__file__).resolve().parents[2]

#: Tells by name what can be reached; TARGETS is put before it. UDP counts as reached when something answers.
PROBE = """
import json, socket

def reaches(kind, host, port):
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(socket.AF_INET, family) as one:
            one.settimeout(1)
            one.connect((host, port))
            if kind == "udp":
                one.send(bytes.fromhex("1a2b01000001000000000000076578616d706c6503636f6d0000010001"))
                one.recv(512)
            return True
    except OSError as error:
        errors.add(type(error).__name__)
        return False

errors = set()
"""
#: A policy reaches a new pod late, so it asks until it is refused, or until it is not.
UNTIL = """
import time
deadline = time.monotonic() + SECONDS
while True:
    found = {name: reaches(*target) for name, target in TARGETS.items()}
    if any(found.values()) == WANTED or time.monotonic() > deadline:
        break
    time.sleep(0.1)
print(json.dumps(found))
"""


@pytest.fixture
def targets(api: Api, warm: Tenant) -> dict[str, tuple[str, str, int]]:
    """Return what a sandbox must not reach and what does listen there."""
    pod = warm.waiting_pod()
    node = api.list("Node")[0]
    (address,) = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    services = api.request("GET", "/api/v1/services")["items"]
    ip = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["spec"]["clusterIP"] for one in services
    }
    return {
        "api server": ("tcp", ip["default", "kubernetes"], 443),
        "node": ("tcp", address, 10250),
        "pod": ("tcp", pod["status"]["podIP"], 7070),
        "dns": ("udp", ip["kube-system", "kube-dns"], 53),
    }


def _program(tenant: Tenant, operator: Installation, name: str, code: str) -> None:
    """Register a program without a runner: nothing but the cluster's policy keeps it from the network."""
    command = {"image": operator.settings["CORRAL_SANDBOX_IMAGE"], "argv": ["python3", "-c", code]}
    tenant.tool(name, permissions=["read", "execute"], run={"command": command})


@contextmanager
def _policies_off() -> Iterator[None]:
    """Let the cluster enforce no policy for a moment."""

    def turn(state: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")}
        kubeconfig = os.environ["KUBECONFIG"]
        command = [sys.executable, "-m", "rig", "policies", state, "--kubeconfig", kubeconfig]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    try:
        turn("off")
        yield
    finally:
        turn("on")


def test_M3_a_tool_can_make_no_socket_whatever_the_address(
    warm: Tenant, targets: dict[str, tuple[str, str, int]]
) -> None:
    more = {"metadata": ("tcp", "169.254.169.254", 80), "itself": ("tcp", "127.0.0.1", 7070)}
    code = f"TARGETS = {targets | more}\n{PROBE}"
    code += (
        "print(json.dumps([{name: reaches(*target) for name, target in TARGETS.items()}, sorted(errors)]))\n"
    )
    code += "import os\nprint(os.path.exists('/run/containerd'), os.path.exists('/var/run/secrets'))"
    main = main_of(warm.ended(warm.python(code)))
    lines = main["output"]["stdout"].splitlines()
    found, errors = json.loads(lines[0])
    assert found == dict.fromkeys(targets | more, False)
    assert errors == ["PermissionError"]
    assert lines[1] == "False False"
    assert sum(denial["count"] for denial in main["denials"]) == len(targets | more)


def test_M3_a_name_is_not_even_asked_for_and_the_refusal_is_typed(warm: Tenant) -> None:
    task = warm.ended(
        warm.python("import socket; socket.create_connection(('kubernetes.default.svc', 443), 5)")
    )
    assert reason_of(task) == "NetworkDenied"
    direct = warm.ended(warm.python("import socket; socket.create_connection(('10.96.0.1', 443), 5)"))
    assert reason_of(direct) == "NetworkDenied"
    assert "socket" in str(main_of(direct)["denials"])
    assert main_of(direct)["error"]["rule"] == "network: none"


def test_M3_the_policy_alone_keeps_a_program_without_a_runner_from_everything(
    tenant: Tenant, operator: Installation, targets: dict[str, tuple[str, str, int]]
) -> None:
    code = f"TARGETS, SECONDS, WANTED = {targets}, 20, False\n{PROBE}{UNTIL}"
    _program(tenant, operator, "probe", code)
    main = main_of(tenant.run("probe", limits={"timeout": "60s"}))
    assert main["reason"] == "Completed", main
    assert json.loads(main["result"]) == dict.fromkeys(targets, False)


def _passer_by(
    tenant: Tenant, operator: Installation, targets: dict[str, tuple[str, str, int]]
) -> dict[str, bool]:
    """Return what an ordinary pod of the cluster, which no policy closes, reaches."""
    image = operator.settings["CORRAL_SANDBOX_IMAGE"]
    code = f"TARGETS, SECONDS, WANTED = {targets}, 0, True\n{PROBE}{UNTIL}"
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "passer-by"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "main", "image": image, "command": ["python3", "-c", code],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }  # fmt: skip
    _ = tenant.pods
    tenant.api.create(pod, tenant.name)
    tenant.pods.until(
        lambda seen: seen.now.get("passer-by", {}).get("status", {}).get("phase") == "Succeeded", seconds=60
    )
    found: dict[str, bool] = json.loads(
        tenant.api.text(f"/api/v1/namespaces/{tenant.name}/pods/passer-by/log")
    )
    return found


def test_M3_nobody_but_its_owner_reaches_a_waiting_sandbox(
    tenant: Tenant, operator: Installation, targets: dict[str, tuple[str, str, int]]
) -> None:
    mine = {name: targets[name] for name in ("api server", "pod")}
    assert _passer_by(tenant, operator, mine) == {"api server": True, "pod": False}


def test_M3_counterproof_without_enforcement_anybody_reaches_a_waiting_sandbox(
    tenant: Tenant, operator: Installation, targets: dict[str, tuple[str, str, int]]
) -> None:
    with _policies_off():
        assert _passer_by(tenant, operator, {"pod": targets["pod"]}) == {"pod": True}


def test_M3_the_namespace_is_closed_before_its_first_pod(tenant: Tenant) -> None:
    _ = tenant.pods
    tenant.ended(tenant.start("calculator", arguments={"expression": "1"}))
    policy = tenant.api.get("NetworkPolicy", tenant.name, "corral-sandbox")
    first = tenant.pods.history[0][1]
    assert policy["metadata"]["creationTimestamp"] <= first["metadata"]["creationTimestamp"]
    assert int(policy["metadata"]["resourceVersion"]) < int(first["metadata"]["resourceVersion"])
    assert policy["spec"]["podSelector"] == {"matchLabels": {"corral.dev/sandbox": "true"}}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy["spec"]


def test_M3_counterproof_without_enforcement_the_same_program_reaches_all(
    tenant: Tenant, operator: Installation, targets: dict[str, tuple[str, str, int]]
) -> None:
    code = f"TARGETS, SECONDS, WANTED = {targets}, 50, True\nimport time; time.sleep(3)\n{PROBE}{UNTIL}"
    _program(tenant, operator, "probe", code)
    _ = tenant.pods
    name = tenant.start("probe", limits={"timeout": "60s"})
    tenant.pods.until(
        lambda seen: any(pod["status"].get("phase") == "Running" for pod in seen.now.values()), seconds=60
    )
    with _policies_off():
        main = main_of(tenant.ended(name))
    assert main["reason"] == "Completed", main
    reached = json.loads(main["result"])
    assert reached["api server"] or reached["node"], reached
    assert any(reached.values())


def test_M3_the_operator_has_proven_that_the_cluster_enforces_policies(operator: Installation) -> None:
    eventually(
        lambda: operator.metrics()["corral_operator_network_policy_enforced"],
        lambda state: state == 1,
        seconds=60,
    )
