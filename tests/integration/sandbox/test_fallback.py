"""Where no cell can be made a sandbox is a bubblewrap of its own; what is weaker is named, what cannot be refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.sandbox.cells import Cells
from corral.sandbox.direct import DirectSandboxes
from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.profile import Profile
from sandboxes import Lab

_HERE = Path(__file__).parent
ALL_LAYERS = {
    "userns",
    "pidns",
    "mountns",
    "netns",
    "ipcns",
    "utsns",
    "cgroupns",
    "rlimits",
    "seccomp",
    "landlock",
}


def cramped(what: str, *, waiting: int) -> dict[str, Any]:
    """Run three tasks one after the other where the kernel gives less than usual."""
    python, task = sys.executable, str(_HERE / "one_task.py")
    command = [python, str(_HERE / "cramped.py"), what, python, task, str(waiting)]
    ended = subprocess.run(
        command, capture_output=True, check=False, timeout=60, env={"PYTHONPATH": str(_HERE.parents[1])}
    )
    assert ended.returncode == 0, ended.stderr.decode()
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def runs(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(told[f"run {number}"][0], told[f"run {number}"][1][:6]) for number in range(3)]


def test_M13_where_cells_cannot_be_made_each_sandbox_is_a_bubblewrap() -> None:
    """Docker's default filter has no clone3, which is what a cell is made with."""
    told = cramped("no-clone3", waiting=1)
    assert told["source"] == "DirectSandboxes"
    assert runs(told) == [("Completed", "2 ran\n")] * 3
    assert (set(told["isolation"]), told["weakened"]) == (ALL_LAYERS, [])


def test_M13_where_cells_can_be_made_they_are() -> None:
    told = cramped("userns=20", waiting=1)
    assert (told["source"], runs(told)) == ("Cells", [("Completed", "2 ran\n")] * 3)


@pytest.mark.parametrize("most", [0, 1])
@pytest.mark.parametrize("waiting", [0, 1])
def test_M13_where_bubblewrap_cannot_be_started_nothing_runs(most: int, waiting: int) -> None:
    missing, remedy = cramped(f"userns={most}", waiting=waiting)["refused"]
    assert "namespaces" in missing
    assert "corral doctor" in remedy


@pytest.mark.parametrize("waiting", [0, 1])
def test_M13_without_landlock_its_name_is_missing(waiting: int) -> None:
    told = cramped("no-landlock", waiting=waiting)
    assert runs(told) == [("Completed", "2 ran\n")] * 3
    assert set(told["isolation"]) == ALL_LAYERS - {"landlock"}


@pytest.mark.parametrize("waiting", [0, 1])
def test_M13_without_seccomp_nothing_runs(waiting: int) -> None:
    told = cramped("no-seccomp", waiting=waiting)
    assert runs(told) == [("Unsupported", "")] * 3
    assert "seccomp" in told["run 0"][2]


@pytest.mark.asyncio(loop_scope="session")
async def test_the_ways_differ(lab: Lab) -> None:
    """The tests that run in both ways do run in two."""
    assert isinstance(lab.backend, EmbeddedBackend)
    inside = (await lab.shell("cat /proc/sys/user/max_inotify_instances")).stdout.strip()
    if isinstance(lab.backend._source, Cells):
        assert inside == "16"
    else:
        assert isinstance(lab.backend._source, DirectSandboxes)
        assert inside != "16"


def make_user_namespace() -> int:
    """Return the error number of the attempt."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.unshare(0x10000000) else 0


@pytest.mark.parametrize("ceilings", [True, False])
@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.asyncio(loop_scope="session")
async def test_no_further_user_namespace_can_be_made_even_without_the_filter(
    waiting: int, *, ceilings: bool
) -> None:
    """The kernel itself refuses in the namespace the sandbox is in, unless that too is off."""
    off = frozenset({"seccomp"} if ceilings else {"seccomp", "ceilings"})
    async with EmbeddedBackend(waiting=waiting, profile=Profile(off)) as backend:
        refused = (await Lab(backend).call(make_user_namespace)).completed()
    assert (refused != 0) is ceilings
