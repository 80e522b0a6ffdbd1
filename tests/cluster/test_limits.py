"""M2 on a cluster: each limit is broken by a task, which ends with its reason, and nobody else notices."""

from typing import Any

import pytest

from cluster.tenant import Tenant, main_of, reason_of

_HOARD = "hoard = []\nwhile True: hoard.append(bytearray(1 << 20))"
#: By reason: tool, argument, limits, what the status calls the limit.
BREAKERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "OutOfMemory": ("python", _HOARD, {"memory": "64Mi"}, "memory"),
    "CPULimit": ("python", "while True: pass", {"cpuTime": "1s", "timeout": "30s"}, "cpuTime"),
    "ProcessLimit": ("shell", "for n in $(seq 60); do sleep 20 & done; wait", {"processes": 12}, "processes"),
    "DiskLimit": (
        "shell",
        "for n in 1 2 3 4 5; do head -c 6000000 /dev/zero > f$n || exit 1; done",
        {"disk": "16Mi"},
        "disk",
    ),
    "FileSizeLimit": ("shell", "head -c 6000000 /dev/zero > f", {"fileSize": "1Mi"}, "fileSize"),
    "OutputLimit": ("shell", "yes", {"output": "64Ki"}, "output"),
    "DeadlineExceeded": ("shell", "echo partial; sleep 60", {"timeout": "1s"}, "timeout"),
    "IdleTimeout": (
        "shell",
        "echo partial; sleep 60",
        {"idleTimeout": "1s", "timeout": "30s"},
        "idleTimeout",
    ),
}
#: It wants all that a sandbox can give of what the others take away, again and again.
_NEIGHBOUR = """
import os, subprocess, time
began = time.monotonic()
rounds = 0
while time.monotonic() - began < 12:
    data = bytearray(8 << 20)
    with open("mine", "wb") as file: file.write(data)
    assert os.path.getsize("mine") == 8 << 20
    assert subprocess.run(["echo", "x"], capture_output=True).stdout == b"x\\n"
    rounds += 1
print(rounds)
"""


def test_M2_each_limit_has_its_own_reason_and_the_neighbour_does_not_notice(tenant: Tenant) -> None:
    tenant.pool(3, whenEmpty="Cold")
    neighbour = tenant.python(_NEIGHBOUR, limits={"memory": "128Mi", "timeout": "60s"})
    node = tenant.running(neighbour)["status"]["sandbox"]["node"]
    started = {
        reason: tenant.start(
            tool, arguments={"code" if tool == "python" else "command": argument}, limits=limits
        )
        for reason, (tool, argument, limits, _) in BREAKERS.items()
    }
    for reason, name in started.items():
        main = main_of(tenant.ended(name))
        assert main["reason"] == reason, main
        assert main["limit"]["name"] == BREAKERS[reason][3], main
        assert main["limit"]["enforcedBy"]
        assert main["message"]
        assert tenant.noted(name, reason)
    task = tenant.ended(neighbour)
    assert reason_of(task) == "Completed", task["status"]
    assert int(main_of(task)["output"]["stdout"]) > 3
    ready = {c["type"]: c["status"] for c in tenant.api.get("Node", "", node)["status"]["conditions"]}
    assert ready["Ready"] == "True"
    assert ready["MemoryPressure"] == ready["DiskPressure"] == ready["PIDPressure"] == "False"
    tenant.pods.until(
        lambda seen: all(
            p["metadata"].get("ownerReferences", [{}])[0].get("kind") == "SandboxPool"
            for p in seen.now.values()
        )
    )


@pytest.mark.parametrize("place", ["tenant", "warm"])
def test_M2_more_than_the_maximum_is_refused_and_not_lowered(
    place: str, request: pytest.FixtureRequest
) -> None:
    there: Tenant = request.getfixturevalue(place)
    task = there.run("calculator", arguments={"expression": "1"}, limits={"timeout": "30m"})
    assert reason_of(task) == "PermissionDenied"
    assert "spec.limits.timeout" in (main_of(task)["error"]["field"] + task["status"]["message"])


def test_M2_cpu_is_a_rate_that_slows_and_does_not_end(warm: Tenant) -> None:
    """A third of a core: a second of work takes about three."""
    code = "import time\nwhile time.process_time() < 0.7: pass"
    main = main_of(warm.ended(warm.python(code, limits={"cpu": "300m", "timeout": "30s"})))
    assert main["reason"] == "Completed"
    assert main["usage"]["wallSeconds"] > 1.7, main["usage"]


def test_M2_usage_is_told(warm: Tenant) -> None:
    code = "data = bytearray(50 << 20)\nopen('f', 'wb').write(bytes(3000000))\nprint('x' * 99)"
    usage = main_of(warm.ended(warm.python(code)))["usage"]
    assert usage["peakMemoryBytes"] > 50 << 20
    assert usage["outputBytes"] == 100
    assert usage["writtenBytes"] >= 3000000
    assert usage["cpuSeconds"] > 0
    assert usage["wallSeconds"] > 0
    assert usage["peakProcesses"] >= 1
