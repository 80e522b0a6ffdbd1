"""The test's end of a pipe; at the other, in a pod with the operator's image and today's sources, is the harness.

``kubectl exec -i`` is that pipe: nothing listens anywhere, and when the test ends, for whatever reason, so does the
harness with its operators.
"""

import io
import itertools
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

Json = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
#: The harness's own namespace, and so the operators'. Another one: another suite can run beside.
OWN = os.environ.get("CORRAL_FAULTS_NAMESPACE", "corral-faults")
POD = "faults"
OPERATOR_IMAGE = os.environ.get("CORRAL_FAULTS_OPERATOR_IMAGE", "corral/operator:dev")
SANDBOX_IMAGE = os.environ.get("CORRAL_FAULTS_SANDBOX_IMAGE", "corral/sandbox:dev")
#: The interpreter of the operator's image.
PYTHON = os.environ.get("CORRAL_FAULTS_PYTHON", "python3")
#: Today's sources go before those of the image; its libraries are its own.
_PYTHONPATH = "/src:/opt/corral/site-packages"
#: The harness must not go down with the node that tests take away.
SAFE_NODE = os.environ.get("CORRAL_FAULTS_SAFE_NODE", "corral-worker")
LOST_NODE = os.environ.get("CORRAL_FAULTS_LOST_NODE", "corral-worker2")

_SOURCES = (
    ("core/src", "corral"),
    ("operator/src", "corral_operator"),
    ("sandbox-image/src", "corral_tools"),
    ("sandbox-image/src", "corral_runner"),
    ("tests", "faults"),
)


def kubectl(*arguments: str, text: str | None = None, seconds: float = 120) -> str:
    """Run kubectl and return what it printed.

    Raises:
        AssertionError: it failed; the message is its own.
    """
    done = subprocess.run(
        ["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def manifests() -> str:
    """Return the account, its rights and the pod, with the operator's labels and image."""
    labels = {"app.kubernetes.io/name": "corral", "app.kubernetes.io/component": "operator"}
    subject = {"kind": "ServiceAccount", "name": POD, "namespace": OWN}
    account = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 86400}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    env = {"PYTHONPATH": _PYTHONPATH, "PYTHONUNBUFFERED": "1", "CORRAL_FAULTS_NAMESPACE": OWN}
    container = {
        "name": "harness",
        "image": OPERATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1000000"],
        "securityContext": {"runAsUser": 0},
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": [
            {"name": "src", "mountPath": "/src"},
            {"name": "account", "mountPath": "/account"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": POD, "namespace": OWN}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": OWN},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [subject],
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": OWN, "labels": labels},
            "spec": {
                "nodeName": SAFE_NODE,
                "serviceAccountName": POD,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [
                    {"name": "src", "emptyDir": {}},
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "account", "projected": {"sources": account}},
                ],
            },
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def push_sources() -> None:
    """Give the pod the sources as they stand here."""
    packed = io.BytesIO()

    def without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if "__pycache__" in member.name else member

    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder, package in _SOURCES:
            archive.add(REPOSITORY / folder / package, package, filter=without_caches)
    into = ["kubectl", "-n", OWN, "exec", "-i", POD, "--", "tar", "x", "-C", "/src", "--no-same-owner"]
    subprocess.run(into, input=packed.getvalue(), check=True, timeout=120, capture_output=True)


class Harness:
    """The harness in the pod, one call at a time."""

    def __init__(self) -> None:
        # What an interrupted run left would run other sources, or is on its way out.
        kubectl("delete", "pod", POD, "-n", OWN, "--ignore-not-found", "--grace-period=0", "--force")
        if "Terminating" in kubectl("get", "namespace", OWN, "--ignore-not-found"):
            kubectl("wait", "--for=delete", f"namespace/{OWN}", "--timeout=90s")
        kubectl("apply", "-f", "-", text=manifests())
        kubectl("-n", OWN, "wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=90s")
        push_sources()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            ["kubectl", "-n", OWN, "exec", "-i", POD, "--", PYTHON, "-m", "faults.harness"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, op: str, **arguments: Any) -> Any:
        """Give a command and return its value.

        Raises:
            AssertionError: it failed; the message is the harness's traceback.
        """
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            number = next(self._numbers)
            line = json.dumps({"id": number, "op": op, "with": arguments})
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            reply: Json = {"id": 0}
            while reply["id"] != number:  # a test that timed out left the answer to its last command
                answer = self._process.stdout.readline()
                assert answer, "the harness has ended"
                reply = json.loads(answer)
        assert "error" not in reply, reply["error"]
        return reply["value"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        kubectl("delete", "namespace", OWN, "--wait=false")
        kubectl("delete", "clusterrolebinding", OWN, "--wait=false")
