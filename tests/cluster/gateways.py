"""Gateways in front of the operator: processes of the real command, with the rights of docs/deployment.md, no more."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from cluster.api import Api, kubectl
from eventually import eventually

_CORRAL = Path(sys.executable).with_name("corral")
#: As the chart calls it, so that its admission policy takes it for the gateway.
ACCOUNT = "corral-gateway"
_START_SECONDS = 60.0
_CLUSTER_RIGHTS: list[dict[str, Any]] = [
    {
        "apiGroups": ["corral.dev"],
        "resources": ["agenttasks"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": ["corral.dev"],
        "resources": ["tools"],
        "verbs": ["get", "list", "watch", "create", "update", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["watch"]},
]
_KEY_RIGHTS: list[dict[str, Any]] = [
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["corral-runner-key"],
        "verbs": ["get"],
    }
]


def account_manifests(namespace: str) -> str:
    """Return the gateway's account beside the operator, and its rights."""
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}]
    name = "corral-test-gateway"
    items: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": namespace},
        }
    ]
    for kind, rules in (("ClusterRole", _CLUSTER_RIGHTS), ("Role", _KEY_RIGHTS)):
        where = {"namespace": namespace} if kind == "Role" else {}
        head = {"apiVersion": f"{group}/v1", "metadata": {"name": name, **where}}
        reference = {"apiGroup": group, "kind": kind, "name": name}
        items += [
            {**head, "kind": kind, "rules": rules},
            {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": subjects},
        ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@contextmanager
def account(api: Api, namespace: str) -> Iterator[str]:
    """Make the account, yield a token of it, and leave nothing: the chart makes one of this name."""
    manifests = account_manifests(namespace)
    kubectl("create", "-f", "-", stdin=manifests)
    try:
        yield _token(api, namespace)
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifests)


def _token(api: Api, namespace: str) -> str:
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 7200},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"
    token: str = api.request("POST", path, body)["status"]["token"]
    return token


def write_kubeconfig(path: Path, token: str, server: str | None = None) -> Path:
    """Write a kubeconfig of the account, for the API server itself or for what stands before it."""
    given = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = given["clusters"][0]["cluster"] if server is None else {"server": server}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


@dataclass
class Gateway:
    """One that serves."""

    url: str
    directory: Path
    log: Path
    metrics_url: str
    process: "subprocess.Popen[bytes]"

    def key(self, caller: str, role: str = "runner") -> str:
        """Make a key as an admin does."""
        made = subprocess.run(
            [_CORRAL, "keys", "create", caller, "--role", role],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return made.stdout.strip()

    def http(self, key: str) -> httpx.Client:
        """Return a client of whoever has a key."""
        return httpx.Client(base_url=self.url, headers={"X-API-Key": key}, timeout=120)

    def caller(self, name: str = "someone") -> httpx.Client:
        """Return a client of a caller."""
        return self.http(self.key(name))

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)


@contextmanager
def gateway_at(directory: Path, kubeconfig: Path, namespace: str, **settings: str) -> Iterator[Gateway]:
    """Serve the tasks of a namespace from a process on this machine."""
    directory.mkdir(exist_ok=True)
    log = directory / "serve.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics_port = free.getsockname()[1]
    env = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "PORT": "0",
        "CORRAL_METRICS_PORT": str(metrics_port),
        "CORRAL_EXECUTOR": "cluster",
        "CORRAL_NAMESPACE": namespace,
        **settings,
    }
    with log.open("wb") as file:
        process = subprocess.Popen([_CORRAL, "serve"], cwd=directory, env=env, stdout=file, stderr=file)
    try:
        address = eventually(
            lambda: re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()),
            seconds=_START_SECONDS,
        )
        assert address is not None
        yield Gateway(address[1], directory, log, f"http://127.0.0.1:{metrics_port}/metrics", process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def events_of(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Return number, kind and data of the events of a stream."""
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["reason"]
