"""Bringing the rig's agent (`rig.agent`) to the nodes, with what it needs to ask the API."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rig import recipes
from rig.errors import RigError
from rig.shell import output

if TYPE_CHECKING:
    from rig.kubectl import Kubectl

_AGENT = Path(__file__).parent / "agent"
_TOKEN_SECONDS = 30

_UNIT = """\
[Unit]
Description=Corral's test rig: pod network and network policies of this node
After=network.target
StartLimitIntervalSec=0

[Service]
Environment=PYTHONPATH=/usr/local/lib/corral-rig PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m rig.agent
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

_ACCESS = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: corral-rig, namespace: kube-system}
---
apiVersion: v1
kind: Secret
metadata:
  name: corral-rig
  namespace: kube-system
  annotations: {kubernetes.io/service-account.name: corral-rig}
type: kubernetes.io/service-account-token
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: corral-rig}
rules:
  - apiGroups: [""]
    resources: [nodes, namespaces, pods]
    verbs: [list, watch]
  - apiGroups: [networking.k8s.io]
    resources: [networkpolicies]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: corral-rig}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: corral-rig}
subjects: [{kind: ServiceAccount, name: corral-rig, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: corral-rig, namespace: kube-system}
rules:
  - apiGroups: [""]
    resources: [configmaps]
    resourceNames: [corral-rig]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: corral-rig, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: corral-rig}
subjects: [{kind: ServiceAccount, name: corral-rig, namespace: kube-system}]
"""


def install(kubectl: Kubectl, nodes: list[str]) -> None:
    """Put the agent on the nodes and start it there; those that have this very version keep theirs."""
    kubectl.apply(_ACCESS)
    credentials = json.dumps(
        {"server": _server(nodes), "ca_file": "/etc/kubernetes/pki/ca.crt", "token": _token(kubectl)}
    )
    archive, version = _archive(credentials), recipes.key(recipes.contents(_AGENT), _UNIT, credentials)
    for node in nodes:
        inside = ["docker", "exec", "--interactive", node]
        mark = "/etc/corral-rig/version"
        if output([*inside, "sh", "-c", f"cat {mark} 2>/dev/null || true"]).strip() == version:
            continue
        output([*inside, "tar", "--extract", "--directory=/", "--no-same-owner"], stdin=archive)
        script = f"systemctl daemon-reload && systemctl enable corral-rig-agent && systemctl restart corral-rig-agent && echo {version} > {mark}"
        output([*inside, "sh", "-c", script])


def _server(nodes: list[str]) -> str:
    """The API's address as the nodes' kubelets have it."""
    command = ["kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf", "config", "view", "--minify"]
    address = "--output=jsonpath={.clusters[0].cluster.server}"
    return output(["docker", "exec", nodes[0], *command, address]).strip()


def _token(kubectl: Kubectl) -> str:
    """A token that does not expire while the cluster lives; the control plane writes it into the Secret."""
    deadline = time.monotonic() + _TOKEN_SECONDS
    while time.monotonic() < deadline:
        told = kubectl(
            "get", "secret", "--namespace=kube-system", "corral-rig", "--output=jsonpath={.data.token}"
        )
        if told:
            return base64.b64decode(told).decode()
        time.sleep(0.2)
    raise RigError(
        "the cluster writes no token for the rig's agent", "See the log of kube-controller-manager."
    )


def _archive(credentials: str) -> bytes:
    files = {
        "etc/corral-rig/api.json": (credentials.encode(), 0o600),
        "etc/systemd/system/corral-rig-agent.service": (_UNIT.encode(), 0o644),
        "usr/local/lib/corral-rig/rig/__init__.py": (b"", 0o644),
        "opt/cni/bin/corral-rig": ((_AGENT / "cni_plugin.py").read_bytes(), 0o755),
    }
    for name, content in recipes.contents(_AGENT):
        files[f"usr/local/lib/corral-rig/rig/agent/{name}"] = (content, 0o644)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
