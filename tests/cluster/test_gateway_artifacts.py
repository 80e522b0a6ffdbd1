"""B15: files too large for an AgentTask, through the gateway, a real S3 server and the sandbox, and back."""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chart.cluster import get, kubectl, namespace
from cluster.gateway_release import Release
from cluster.s3_pod import LABELS, PORT, SECRET, URL, S3Pod, s3_pod
from eventually import eventually

pytestmark = pytest.mark.timeout(600)

CONTENT = os.urandom(3 << 20)
HASH = hashlib.sha256(CONTENT).hexdigest()
#: Says, too, what of the store a sandbox knows.
COMMAND = "cat in/large in/large > out; seq 60000; env | grep -c -i -e aws -e s3 >&2; true"
SPEC = {
    "tool": "shell",
    "arguments": {"command": COMMAND},
    "outputs": ["out"],
    "limits": {"output": "1Mi", "fileSize": "32Mi"},
}


@pytest.fixture(scope="module")
def store() -> Iterator[S3Pod]:
    with namespace() as name, s3_pod(name) as server:
        yield server


@pytest.fixture(scope="module")
def release(store: S3Pod) -> Iterator[Release]:
    with namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        release = Release(name)
        keys = {"accessKeyId": "corral", "secretAccessKey": "a-secret-of-the-test"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": keys}
        kubectl("create", "--namespace", name, "-f", "-", stdin=secret)
        try:
            release.install(
                artifacts={
                    "url": URL,
                    "endpoint": store.endpoint,
                    "region": "us-east-1",
                    "credentialsSecret": {"name": SECRET},
                    "port": PORT,
                    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": LABELS}}],
                }
            )
            yield release
        finally:
            release.uninstall()


@pytest.fixture(scope="module")
def gateway(release: Release) -> Iterator[httpx.Client]:
    key = release.corral("keys", "create", "admin", "--role", "admin")
    with (
        release.forwarded(8000) as url,
        httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=180) as client,
    ):
        yield client


def _run(gateway: httpx.Client, content: bytes = CONTENT, **spec: Any) -> dict[str, Any]:
    answer = gateway.post(
        "/v1/tasks?wait=120s",
        data={"task": json.dumps({**SPEC, **spec})},
        files={"file": ("in/large", content)},
    )
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


def test_B15_a_large_file_goes_through_the_store_into_the_sandbox_and_back(
    gateway: httpx.Client, release: Release, store: S3Pod
) -> None:
    task = _run(gateway)
    uid, (main,) = task["metadata"]["uid"], task["status"]["executions"]
    assert (main["reason"], main["output"]["stderr"]) == ("Completed", "0\n"), main.get("message")
    assert task["spec"]["files"] == [{"path": "in/large", "artifact": f"sha256:{HASH}"}]
    (out,) = main["files"]
    assert out == {
        "path": "out",
        "size": 2 * len(CONTENT),
        "sha256": hashlib.sha256(CONTENT * 2).hexdigest(),
        "stored": True,
    }
    assert [one["name"] for one in main["stored"]] == ["stdout"]
    assert main["output"]["truncated"] is True
    assert gateway.get(f"/v1/tasks/{uid}/files/out").content == CONTENT * 2
    middle = len(CONTENT)
    ranged = gateway.get(
        f"/v1/tasks/{uid}/files/out", headers={"Range": f"bytes={middle - 1}-{middle}"}
    ).content
    assert ranged == CONTENT[-1:] + CONTENT[:1]
    assert len(gateway.get(f"/v1/tasks/{uid}/output/stdout").text.splitlines()) == 60_000
    # All of it lies under the task's UID, and goes with the task, whoever deletes it.
    assert {name.split("/")[0] for name in store.kept} == {uid}
    assert len(store.kept) == 3
    kubectl("delete", "agenttask", task["metadata"]["name"], "--namespace", release.namespace)
    eventually(lambda: store.kept, lambda kept: not kept, seconds=30)


def test_B15_whoever_knows_the_hash_of_anothers_file_has_not_the_file(
    gateway: httpx.Client, release: Release
) -> None:
    theirs = _run(gateway)
    spec = {**SPEC, "files": [{"path": "in/large", "artifact": f"sha256:{HASH}"}]}
    manifest = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "curious", "annotations": theirs["metadata"]["annotations"]},
        "spec": spec,
    }
    kubectl("create", "--namespace", release.namespace, "-f", "-", stdin=manifest)
    status = eventually(
        lambda: get("agenttask", "curious", release.namespace).get("status", {}),
        lambda status: "completionTime" in status,
        seconds=90,
    )
    (main,) = status["executions"]
    assert (status["reason"], main["error"]["type"]) == ("InvalidSpec", "ArtifactMissing")
    assert "output" not in main or main["output"]["stdout"] == ""
    # Nor does the gateway take a hash for a file.
    answer = gateway.post("/v1/tasks", json=spec)
    assert answer.status_code == 422


def test_B15_a_store_that_is_gone_is_told_and_tasks_without_large_files_run_on(
    gateway: httpx.Client, store: S3Pod
) -> None:
    store.stop()
    refused = gateway.post(
        "/v1/tasks", data={"task": json.dumps(SPEC)}, files={"file": ("in/large", CONTENT)}
    )
    assert (refused.status_code, refused.json()["reason"]) == (503, "ArtifactStoreFailed"), refused.text
    assert refused.headers["retry-after"]
    large = _run(gateway, b"small", arguments={"command": "head -c 300000 /dev/zero > out"})
    (main,) = large["status"]["executions"]
    assert (main["reason"], main["error"]["type"]) == ("OutputLimit", "ArtifactStoreFailed"), main
    assert "run the task again" in main["message"]
    small = _run(gateway, b"small", arguments={"command": "cp in/large out"})
    (main,) = small["status"]["executions"]
    assert (main["reason"], main["files"][0]["content"]) == ("Completed", "small")
