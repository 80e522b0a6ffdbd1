"""Limits in a pod: a volume that is larger than the task's share of it, and the wall of the container's cgroup."""

import base64
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually_async
from integration.pod_runner.pods import MIB, Container, Pod
from integration.pod_runner.test_pod_start import outcome
from integration.sandbox.hosts_view import with_marker
from integration.sandbox.serving import start_request
from sandboxes import shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT = {"diskBytes": 8 * MIB, "fileSizeBytes": 64 * MIB}
DISK = {"name": "disk", "value": 8 * MIB, "unit": "bytes"}


def fill(*places: str) -> dict[str, Any]:
    """Write 5 MiB into each place, and wait for what comes of it."""
    return shell("".join(f"head -c 5242880 /dev/zero > {place}/x; " for place in places) + "sleep 60")


def reached(result: dict[str, Any]) -> Any:
    return result["reason"], {name: result["limit"][name] for name in DISK}


@pytest.mark.parametrize(
    "places", [("/workspace", "/tmp"), ("/tmp", "/dev/shm"), ("/workspace", "/workspace/..//tmp")]
)
async def test_M2_disk_limit_holds_on_a_volume_that_is_larger(places: tuple[str, ...]) -> None:
    async with Pod.started() as pod:
        assert reached(await outcome(await pod.peer(), fill(*places), limits=LIMIT)) == ("DiskLimit", DISK)


async def test_M2_what_stays_below_the_disk_limit_is_not_ended() -> None:
    async with Pod.started() as pod:
        result = await outcome(
            await pod.peer(), shell("head -c 7000000 /dev/zero > /tmp/x; sleep 0.3"), limits=LIMIT
        )
    assert result["reason"] == "Completed"


async def test_M2_many_files_are_the_disk_limit_too() -> None:
    script = "mkdir d; cd d; seq 20000 | xargs touch; sleep 60"
    async with Pod.started() as pod:
        assert reached(await outcome(await pod.peer(), shell(script), limits=LIMIT)) == ("DiskLimit", DISK)


async def test_M2_files_that_are_too_large_for_the_limit_keep_the_task_from_starting() -> None:
    async with Pod.started() as pod:
        peer = await pod.peer()
        data = base64.b64encode(bytes(512 * 1024)).decode()
        for number in range(18):
            await peer.send(op="put", path="in", data=data, append=number > 0)
        await peer.send(**start_request(shell("echo never"), limits=LIMIT))
        refusal = await peer.next()
    assert (refusal["code"], refusal["execution"]) == ("DiskLimit", "one")


@pytest.mark.parametrize(
    "script", ["head -c 20000000 /dev/zero > x; sleep 60", "seq 20000 | xargs touch; sleep 60"]
)
async def test_M2_disk_limit_holds_where_the_workspace_is_on_the_nodes_disk(
    tmp_path: Path, script: str
) -> None:
    async with Pod.started(Container(disk=tmp_path)) as pod:
        peer = await pod.peer()
        assert (await outcome(peer, shell("echo fits > y; cat y"), limits=LIMIT))["stdout"] == "fits\n"
        assert reached(await outcome(peer, shell(script), "two", limits=LIMIT)) == ("DiskLimit", DISK)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill {}\noom_group_kill 0\n", 1),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n", 1),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill {}\noom_group_kill 0\n", 0),
    ],
)
async def test_M2_a_kill_by_the_containers_cgroup_is_out_of_memory(
    tmp_path: Path, path: str, before: str, after: int
) -> None:
    """The kernel's part, a counter and SIGKILL, is played here; tests/cluster has the real one."""
    counter = tmp_path / path
    counter.parent.mkdir(exist_ok=True)
    counter.write_text(before.format(3))
    async with Pod.started(Container(cgroup=tmp_path)) as pod:
        peer = await pod.peer()
        mark = f"86400.{os.getpid()}"
        await peer.send(op="follow")
        await peer.send(**start_request({"command": ["sleep", mark]}))
        tool = (await eventually_async(lambda: with_marker(mark), lambda found: len(found) == 1))[0]
        counter.write_text(before.format(3 + after))
        os.kill(tool, signal.SIGKILL)
        result = (await peer.until("result"))[-1]
    if after:
        limit = {"name": "memory", "value": 512 * MIB, "unit": "bytes", "enforcedBy": "cgroup"}
        assert (result["reason"], result["limit"], result["signal"]) == ("OutOfMemory", limit, 9)
    else:
        assert (result["reason"], result["limit"], result["signal"]) == ("ToolError", None, 9)
