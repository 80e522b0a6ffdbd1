"""B8: a gateway in a pod reads output from the sandbox as it comes; one that is no gateway's pod reads nothing."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from cluster.api import Api, kubectl
from cluster.gateways import ACCOUNT, events_of
from cluster.installation import Installation
from cluster.tenant import Tenant
from eventually import eventually

IMAGE = os.environ.get("CORRAL_TEST_GATEWAY_IMAGE", "corral/gateway:dev")
#: As the chart labels it, and as the sandboxes' NetworkPolicy knows it.
GATEWAY = {"app.kubernetes.io/component": "gateway"}
_READY_SECONDS = "180s"


def _pod(name: str, labels: dict[str, str], namespace: str, env: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "serviceAccountName": ACCOUNT,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 65532},
            "containers": [
                {
                    "name": "gateway",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "env": [{"name": key, "value": value} for key, value in env.items()],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/var/lib/corral"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }


@contextmanager
def _gateway_pod(operator: Installation, tasks: Tenant, labels: dict[str, str]) -> Iterator[httpx.Client]:
    """Run a gateway beside the operator, and yield a client of a caller."""
    name = f"gateway-{uuid.uuid4().hex[:6]}"
    env = {"CORRAL_NAMESPACE": tasks.name, "CORRAL_OPERATOR_NAMESPACE": operator.namespace, "DEBUG": "true"}
    where = ("--namespace", operator.namespace)
    kubectl("apply", "-f", "-", stdin=json.dumps(_pod(name, labels, operator.namespace, env)))
    try:
        kubectl(
            *where, "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={_READY_SECONDS}", seconds=240
        )
        key = kubectl(
            *where, "exec", name, "--", "corral", "keys", "create", "ann", "--role", "runner"
        ).strip()
        with (
            _forwarded(name, operator.namespace) as url,
            httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=120) as client,
        ):
            yield client
    finally:
        kubectl(*where, "delete", "pod", name, "--wait=false")


@contextmanager
def _forwarded(pod: str, namespace: str) -> Iterator[str]:
    command = ["kubectl", "--namespace", namespace, "port-forward", f"pod/{pod}", ":8000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found is not None
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()


def _gated(tasks: Tenant, client: httpx.Client) -> tuple[str, str, Any]:
    """Start a task that prints, and ends when it is told to; return its path and its pod."""
    command = "echo first; echo aside >&2; touch begun; until [ -e go ]; do sleep 0.05; done; echo last"
    answer = client.post("/v1/tasks", json={"tool": "shell", "arguments": {"command": command}})
    assert answer.status_code == 202, answer.text
    name = answer.json()["metadata"]["name"]
    return answer.headers["location"], tasks.has_begun(name), name


def _let_go(tasks: Tenant, pod: str) -> None:
    tasks.kubectl("exec", pod, "--", "touch", "/workspace/go")


def _read_until(client: httpx.Client, where: str, wanted: str, **headers: str) -> list[tuple[int, str, Any]]:
    """Read events until one has a text, then hang up."""
    blocks = []
    with client.stream("GET", f"{where}/events", headers=headers) as answer:
        for line in answer.iter_lines():
            blocks.append(line)
            if not line and wanted in "\n".join(blocks[-4:]):
                break
    return events_of("\n".join(blocks))


@pytest.mark.usefixtures("gateway_token")
def test_B8_output_comes_while_the_tool_runs_and_goes_on_where_a_reader_was(
    api: Api, operator: Installation, warm: Tenant
) -> None:
    with _gateway_pod(operator, warm, GATEWAY) as client:
        where, pod, _ = _gated(warm, client)
        begun = _read_until(client, where, "aside")
        assert {(kind, data.get("text")) for _, kind, data in begun} == {
            ("started", None),
            ("output", "first\n"),
            ("output", "aside\n"),
        }
        # Again, from each of them: the same events have the same numbers while it runs.
        for place in range(len(begun) - 1):
            last = str(begun[place][0])
            assert (
                _read_until(client, where, begun[-1][2]["text"].strip(), **{"Last-Event-ID": last})
                == (begun[place + 1 :])
            )
        _let_go(warm, pod)
        rest = events_of(client.get(f"{where}/events", headers={"Last-Event-ID": str(begun[-1][0])}).text)
        assert [(kind, data.get("text")) for _, kind, data in rest] == [
            ("output", "last\n"),
            ("ended", None),
            ("finished", None),
        ]
        # The sandbox is gone: the status has the same end.
        eventually(lambda: api.find("Pod", warm.name, pod) is None, seconds=60)
        again = events_of(client.get(f"{where}/events", headers={"Last-Event-ID": str(begun[-1][0])}).text)
        assert again == rest


@pytest.mark.usefixtures("gateway_token")
def test_M5_a_pod_that_is_no_gateways_cannot_reach_a_runner_and_tells_the_end_alone(
    operator: Installation, warm: Tenant
) -> None:
    with _gateway_pod(operator, warm, {"app": "another"}) as client:
        where, pod, name = _gated(warm, client)
        with (
            pytest.raises(httpx.ReadTimeout),
            client.stream("GET", f"{where}/events", timeout=httpx.Timeout(60, read=5)) as answer,
        ):
            assert [line for line in answer.iter_lines() if line] == []
        _let_go(warm, pod)
        warm.ended(name)
        told = events_of(client.get(f"{where}/events").text)
        assert [(kind, data.get("text")) for _, kind, data in told] == [
            ("started", None),
            ("output", "first\nlast\n"),
            ("output", "aside\n"),
            ("ended", None),
            ("finished", None),
        ]
