"""M1, B7, B15: what goes into a sandbox and what comes back."""

import base64
from typing import Any

import pytest

from cluster.tenant import Tenant, main_of, reason_of

READ = "import os, json; print(json.dumps({k: os.environ.get(k) for k in ('TOKEN', 'PLAIN')}))"


@pytest.fixture(params=["cold", "warm"])
def place(request: pytest.FixtureRequest) -> Tenant:
    """Return a namespace without a pool, and one with."""
    found = request.getfixturevalue("tenant" if request.param == "cold" else "warm")
    assert isinstance(found, Tenant)
    return found


def test_B7_files_and_environment_reach_the_tool_and_outputs_come_back(place: Tenant) -> None:
    data = bytes(range(256)) * 8
    spec: dict[str, Any] = {
        "files": [
            {"path": "in/a.txt", "content": "grüß dich\n"},
            {"path": "in/b.bin", "contentBase64": base64.b64encode(data).decode()},
        ],
        "env": [{"name": "PLAIN", "value": "an env"}],
        "outputs": ["out/**", "missing-*"],
    }
    code = (
        "mkdir -p out/deep && cat in/a.txt && cp in/b.bin out/deep/ && "
        'printf %s "$PLAIN" > out/env.txt && echo ignored > other'
    )
    task = place.ended(place.shell(code, **spec))
    main = main_of(task)
    assert main["reason"] == "Completed", main
    assert main["output"]["stdout"] == "grüß dich\n"
    files = {file["path"]: file for file in main["files"]}
    assert set(files) == {"out/deep/b.bin", "out/env.txt"}
    assert files["out/env.txt"]["content"] == "an env"
    assert base64.b64decode(files["out/deep/b.bin"]["contentBase64"]) == data
    assert main["sandbox"]["warm"] is (
        "pool" in {p["metadata"]["name"] for p in place.api.list("SandboxPool", place.name)}
    )


def _secret(tenant: Tenant, name: str, **values: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    tenant.api.create(body, tenant.name)


def test_M1_secrets_reach_cold_pods_and_nothing_that_is_read(warm: Tenant) -> None:
    """A pool waits there, but only the kubelet may read the namespace's secrets: the pod is a cold one."""
    _secret(warm, "mine", token="s3cr3t-canary", other="not-asked-for")
    references = [{"name": "mine", "key": "token", "env": "TOKEN"}]
    code = "import os; print(len(os.environ['TOKEN']), 'not-asked-for' in str(os.environ))"
    name = warm.python(code, secretRefs=references)
    pod = warm.running(name)["status"]["sandbox"]["podName"]
    task = warm.ended(name)
    assert main_of(task)["output"]["stdout"] == "13 False\n", task["status"]
    assert main_of(task)["sandbox"]["warm"] is False
    everything = str(task) + str(warm.pods.versions(pod)) + str(warm.notes(name))
    assert "s3cr3t-canary" not in everything


def test_M1_a_secret_that_is_missing_is_named(tenant: Tenant) -> None:
    _secret(tenant, "mine", token="x")
    names = {
        "no-such-secret": tenant.python(
            READ, secretRefs=[{"name": "no-such-secret", "key": "a", "env": "TOKEN"}]
        ),
        "no-such-key": tenant.python(
            READ, secretRefs=[{"name": "mine", "key": "no-such-key", "env": "TOKEN"}]
        ),
    }
    for missing, name in names.items():
        task = tenant.ended(name)
        assert reason_of(task) == "InvalidSpec", task["status"]
        assert missing in task["status"]["message"]
        assert "secretRefs" in task["status"]["message"] or main_of(task)["error"]["field"].startswith(
            "spec.secretRefs"
        )


def test_B15_a_file_that_the_status_has_no_room_for_is_a_typed_refusal(warm: Tenant) -> None:
    task = warm.ended(warm.shell("head -c 3000000 /dev/urandom > big.bin", outputs=["*.bin"]))
    main = main_of(task)
    assert main["reason"] == "OutputLimit"
    assert "big.bin (3000000 bytes)" in main["message"]
    assert main["error"]["field"] == "spec.outputs"


def test_B9_long_output_is_cut_in_the_status_and_said_to_be(warm: Tenant) -> None:
    main = main_of(warm.ended(warm.shell("yes | head -c 300000")))
    assert main["reason"] == "Completed"
    assert main["output"]["truncated"] is True
    assert 0 < len(main["output"]["stdout"]) <= 65536
    assert main["usage"]["outputBytes"] == 300000
