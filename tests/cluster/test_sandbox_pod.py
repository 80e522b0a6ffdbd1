"""M1, B14: what a sandbox's pod is, seen from the API server and from inside. Its namespace enforces `restricted`."""

import json

import pytest

from cluster.api import Object
from cluster.tenant import Tenant, main_of

_INSIDE = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
def writes(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(),
    "capabilities": [status["Cap" + which].strip() for which in ("Inh", "Prm", "Eff", "Amb")],
    "no_new_privs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "environment": sorted(os.environ),
    "writes": [path for path in ("/x", "/etc/x", "/usr/x", "/opt/x", "/var/x", "/proc/sys/kernel/core_pattern",
        "/sys/fs/cgroup/x", "/workspace/x", "/tmp/x") if writes(path)],
    "processes": [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) < 2],
}))
"""


@pytest.fixture(params=["cold", "warm"])
def ended(request: pytest.FixtureRequest, warm: Tenant) -> tuple[Object, Object]:
    """Return a task that has looked around, and the pod it ran in."""
    limits = {"memory": "600Mi"} if request.param == "cold" else {}
    task = warm.ended(warm.python(_INSIDE, limits=limits))
    main = main_of(task)
    assert main["sandbox"]["warm"] is (request.param == "warm")
    return task, warm.pods.versions(main["sandbox"]["podName"])[-1]


def test_M1_a_sandbox_pod_gives_its_tool_nothing(ended: tuple[Object, Object]) -> None:
    task, _ = ended
    seen = json.loads(main_of(task)["output"]["stdout"])
    assert seen["uid"] == seen["gid"] == 65532
    assert set(seen["capabilities"]) == {"0" * 16}
    assert (seen["no_new_privs"], seen["seccomp"]) == ("1", "2")
    assert seen["token"] is False
    assert seen["writes"] == ["/workspace/x", "/tmp/x"]
    assert set(seen["environment"]) <= {
        "CORRAL_SANDBOX", "HOME", "LANG", "LC_CTYPE", "LOGNAME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH",
        "PWD", "TMPDIR", "USER",
    }, seen["environment"]  # fmt: skip
    layers = set(main_of(task)["sandbox"]["isolation"])
    assert {"pidns", "mountns", "netns", "ipcns", "utsns", "rlimits", "seccomp", "landlock"} <= layers


def test_M1_a_sandbox_pod_is_closed_in_its_spec(ended: tuple[Object, Object]) -> None:
    task, pod = ended
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert [list(volume) for volume in spec["volumes"]] == [["name", "emptyDir"]]
    assert spec["volumes"][0]["emptyDir"]["sizeLimit"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    owner = pod["metadata"]["ownerReferences"][0]
    assert owner["controller"] is True
    if not main_of(task)["sandbox"]["warm"]:
        assert (owner["kind"], owner["uid"]) == ("AgentTask", task["metadata"]["uid"])
