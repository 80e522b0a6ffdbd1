"""Nothing of the host shows inside, nothing of one task in another, and nothing stays behind."""

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from integration.sandbox.hosts_view import below, runners_below, with_marker
from sandboxes import Lab, function, request, run_in, shell

in_shared_loop = pytest.mark.asyncio(loop_scope="session")

_TESTS = Path(__file__).parents[2]
#: The side of the host: a program of its own, so that what it has open and started is Corral's alone.
_HOST = f"""
import asyncio, json, os, sys
sys.path.insert(0, {str(_TESTS)!r})
from corral.client import AsyncClient
from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.profile import Profile
from integration.sandbox.hosts_view import footprint
from sandboxes import Lab, request, run_in, shell, until_printed

def backend(given):
    profile = Profile(outer_layers_off=frozenset(given.get("outer", ())))
    return EmbeddedBackend(waiting=2, cells=given["way"] == "cells", profile=profile)

def tell(value):
    print(json.dumps(value), flush=True)
"""
WAYS = ("cells", "direct")


def marker() -> str:
    """Make a number of seconds that no other process of this machine sleeps for."""
    return f"31538{uuid.uuid4().int % 10**12}"


def host(program: str, given: dict[str, Any], *arguments: str, **changes: Any) -> "subprocess.Popen[str]":
    """Start a host-side program; it finds ``given`` as a variable."""
    source = f"{_HOST}\ngiven = json.loads({json.dumps(json.dumps(given))})\n{program}"
    return subprocess.Popen(
        [sys.executable, "-B", "-c", source, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **changes,
    )


def told(process: "subprocess.Popen[str]") -> Any:
    """Return what a host-side program says at its end."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return json.loads(out)


# --- the host's secrets ---


def look_for(canaries: list[str]) -> dict[str, list[str]]:
    """Read everything that tells of processes, descriptors and mounts; name the places where a canary shows."""
    import os

    seen: dict[str, str] = {"environment": repr(dict(os.environ)), "mounts": "", "cwd": os.getcwd()}
    directories = ["/proc", *(f"/proc/{name}" for name in os.listdir("/proc") if name.isdigit())]
    for directory in (*directories, "/proc/self", "/proc/thread-self"):
        for name in (
            "cmdline",
            "environ",
            "mountinfo",
            "mounts",
            "maps",
            "status",
            "net/unix",
            "keys",
            "locks",
        ):
            try:
                with open(f"{directory}/{name}", "rb") as file:
                    seen[f"{directory}/{name}"] = file.read().decode("utf-8", "replace")
            except OSError:
                continue
        for name in ("cwd", "root", "exe"):
            try:
                seen[f"{directory}/{name}"] = os.readlink(f"{directory}/{name}")
            except OSError:
                continue
        try:
            for name in os.listdir(f"{directory}/fd"):
                seen[f"{directory}/fd/{name}"] = os.readlink(f"{directory}/fd/{name}")
        except OSError:
            continue
    for descriptor in range(1024):
        try:
            seen[f"content of {descriptor}"] = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
        except OSError:
            continue
    found = {canary: [place for place, text in seen.items() if canary in text] for canary in canaries}
    return {canary: places for canary, places in found.items() if places} | {"looked at": [str(len(seen))]}


CANARIES = [
    "canary-environment",
    "canary-argument",
    "canary-directory",
    "canary-file-name",
    "canary-file-content",
]


def look_from_a_host_with_secrets(folder: Path, way: str, *outer: str) -> dict[str, list[str]]:
    """Run ``look_for`` below a host process that has a canary everywhere."""
    directory = folder / "canary-directory"
    directory.mkdir()
    secret = folder / "canary-file-name"
    secret.write_text("canary-file-content")
    program = """
async def main():
    async with backend(given) as sandboxes:
        await sandboxes.warm_up()
        tell([(await Lab(sandboxes).run(request(given["run"], given["arguments"]))).completed() for _ in range(3)])
asyncio.run(main())
"""
    # Not on the command line, where they would be canaries themselves.
    names = [[canary.split("-", 1)[0], canary.split("-", 1)[1]] for canary in CANARIES]
    given = {"way": way, "outer": outer, "run": function(look_for), "arguments": {"canaries": []}}
    program = f"given['arguments']['canaries'] = ['-'.join(name) for name in {names!r}]\n" + program
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        process = host(
            program,
            given,
            "--password=canary-argument",
            env={**os.environ, "SECRET": "canary-environment"},
            cwd=directory,
            pass_fds=[file.fileno()],
        )
        everywhere: list[dict[str, list[str]]] = told(process)
    return {name: places for found in everywhere for name, places in found.items()}


@pytest.mark.parametrize("way", WAYS)
def test_M13_secrets_of_the_host_do_not_show_inside(tmp_path: Path, way: str) -> None:
    found = look_from_a_host_with_secrets(tmp_path, way)
    assert int(found.pop("looked at")[0]) > 20
    assert found == {}


def test_M13_an_argument_of_the_host_shows_where_the_process_namespace_is_off(tmp_path: Path) -> None:
    found = look_from_a_host_with_secrets(tmp_path, "direct", "pid")
    assert any(place.endswith("/cmdline") for place in found["canary-argument"]), found


@in_shared_loop
@pytest.mark.parametrize("kind", ["function", "command"])
async def test_M13_a_tool_inherits_its_own_descriptors_and_no_other(lab: Lab, kind: str) -> None:
    def descriptors() -> list[int]:
        import os

        found = []
        for number in range(4096):
            try:
                os.fstat(number)
            except OSError:
                continue
            found.append(number)
        return found

    if kind == "function":
        # 3 leads to the runner: a function's result goes there.
        assert (await lab.call(descriptors)).completed() == [0, 1, 2, 3]
    else:
        program = "import os; print([n for n in range(4096) if os.path.exists(f'/proc/self/fd/{n}')])"
        assert (await lab.shell(f'python3 -c "{program}"')).stdout == "[0, 1, 2]\n"


# --- one task and the next ---


def leave_everything() -> list[str]:
    """Leave something of every kind; return what could be left."""
    import ctypes
    import os
    import socket

    left = []
    for directory in ("/workspace", "/tmp", "/dev/shm"):
        os.mkdir(f"{directory}/residue-directory")
        with open(f"{directory}/.residue", "w") as file:
            file.write("residue")
        left.append(directory)
    libc = ctypes.CDLL(None, use_errno=True)
    for name, number in (
        ("shm", libc.shmget(0x5EC2E7, 4096, 0o1666)),
        ("sem", libc.semget(0x5EC2E7, 1, 0o1666)),
        ("msg", libc.msgget(0x5EC2E7, 0o1666)),
    ):
        if number >= 0:
            left.append(name)
    if os.fork() == 0:
        os.setsid()
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("\0residue-socket")
            listener.listen()
        except OSError:
            pass
        os.execvp("sleep", ["residue-process", "600"])
    return left


def find_anything() -> list[str]:
    """Return what is there of another task."""
    import os

    found = []
    for directory in ("/workspace", "/tmp", "/dev/shm", "/var/tmp", "/run", os.path.expanduser("~")):
        if os.path.isdir(directory):
            found += [f"{directory}/{name}" for name in os.listdir(directory)]
    for name in ("shm", "sem", "msg"):
        with open(f"/proc/sysvipc/{name}") as file:
            found += [name for line in file.readlines()[1:] if line.split()[0] == str(0x5EC2E7)]
    with open("/proc/net/unix") as file:
        found += [line.split()[-1] for line in file if "residue" in line]
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    found += [f"process {pid}" for line in file if "residue-process" in line]
            except OSError:
                continue
    return sorted(set(found))


@in_shared_loop
async def test_M4_nothing_of_a_task_is_there_for_the_next(lab: Lab) -> None:
    for _ in range(3):
        left = (await lab.call(leave_everything)).completed()
        assert {"/workspace", "/tmp", "/dev/shm"} <= set(left)
        assert (await lab.call(find_anything)).completed() == []


@in_shared_loop
async def test_M4_nothing_of_a_task_is_there_for_others_while_its_sandbox_lives(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        first = request(function(leave_everything))
        left = (await run_in(sandbox, first)).completed()
        for _ in range(3):
            assert (await lab.call(find_anything)).completed() == []
        # The same look does find it where it is: in the same sandbox.
        same = (await run_in(sandbox, request(function(find_anything), owner=first.owner))).completed()
    for directory in ("/workspace", "/tmp", "/dev/shm"):
        assert {f"{directory}/.residue", f"{directory}/residue-directory"} <= set(same)
    assert {name for name in left if "/" not in name} <= set(same)


def draw() -> dict[str, Any]:
    """Draw something random from every source that a small tool may use."""
    import os
    import random
    import secrets
    import tempfile
    import uuid

    with tempfile.NamedTemporaryFile() as file:
        name = os.path.basename(file.name)
    return {
        "random": random.random(),
        "choice": "".join(random.choices("abcdefghij", k=20)),
        "generator": random.Random().random(),
        "uuid": str(uuid.uuid4()),
        "tempfile": name,
        "directory": os.path.basename(tempfile.mkdtemp()),
        "secrets": secrets.token_hex(8),
        "urandom": os.urandom(8).hex(),
    }


@in_shared_loop
async def test_M4_random_numbers_differ_from_fork_to_fork(lab: Lab) -> None:
    """The nursery has imported random before it forks: no two tools may go on from the same state."""
    draws = [(await lab.call(draw)).completed() for _ in range(8)]
    for source in draws[0]:
        assert len({drawn[source] for drawn in draws}) == len(draws), source


@in_shared_loop
async def test_M4_random_numbers_differ_within_a_session(cells: Lab) -> None:
    async with cells.sandbox() as sandbox:
        first = request(function(draw))
        others = [request(function(draw), owner=first.owner) for _ in range(3)]
        draws = [(await run_in(sandbox, what)).completed() for what in (first, *others)]
    for source in draws[0]:
        assert len({drawn[source] for drawn in draws}) == len(draws), source


# --- what stays on the host ---

ENDS: dict[str, str] = {
    "success": "assert (await lab.shell('echo ok')).reason == 'Completed'",
    "failure": "assert (await lab.shell('exit 3')).reason == 'ToolError'",
    "timeout": "assert (await lab.shell(f'sleep {mark}; true', wall_seconds=0.3)).reason == 'DeadlineExceeded'",
    "limit": "assert (await lab.shell('tail /dev/zero', memory_bytes=64 << 20)).reason == 'OutOfMemory'",
    "cancel": """
        async with lab.sandbox() as sandbox:
            what = request(shell(f'echo up; setsid sleep {mark} & sleep {mark}'))
            await sandbox.start(what)
            await until_printed(sandbox, 'up')
            await sandbox.cancel()
            assert (await run_in(sandbox, what)).reason == 'Cancelled'
""",
    "kill": """
        async with lab.sandbox() as sandbox:
            await sandbox.start(request(shell(f'echo up; setsid sleep {mark} & sleep {mark}')))
            await until_printed(sandbox, 'up')
            sandbox.kill()
""",
    "cancelled_caller": """
        task = asyncio.create_task(lab.shell(f'sleep {mark}'))
        await eventually_async(lambda: with_marker(f'sleep\\0{mark}\\0'))
        task.cancel()
        await asyncio.wait([task])
""",
    "close_while_running": """
        sandbox = await lab.backend.acquire(SandboxNeeds(1 << 20))
        await sandbox.start(request(shell(f'echo up; setsid sleep {mark} & sleep {mark}')))
        await until_printed(sandbox, 'up')
""",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_M13_nothing_stays_on_the_host_however_a_task_ends(tmp_path: Path, way: str, end: str) -> None:
    program = f"""
from corral.sandbox.port import SandboxNeeds
from eventually import eventually, eventually_async
from integration.sandbox.hosts_view import with_marker
mark = given["mark"]

async def once():
    async with backend(given) as sandboxes, AsyncClient(backend=sandboxes):
        lab = Lab(sandboxes)
        {ENDS[end].strip()}

async def main():
    before = footprint()
    for _ in range(2):
        await once()
    tell([str(before), str(eventually(footprint, lambda now: now == before))])
asyncio.run(main())
"""
    mark = marker()
    process = host(program, {"way": way, "mark": mark}, env={**os.environ, "TMPDIR": str(tmp_path)})
    before, after = told(process)
    assert before == after
    assert with_marker(f"sleep\0{mark}\0") == []
    assert list(tmp_path.iterdir()) == []


@contextmanager
def watched(processes: set[int]) -> Iterator[Callable[[], int]]:
    """Hold on to processes; gives a function that counts those which live."""
    handles = []
    for pid in processes:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    try:
        yield lambda: len(handles) - len(select.select(handles, [], [], 0)[0])
    finally:
        for handle in handles:
            os.close(handle)


def host_with_a_running_task(folder: Path, way: str, mark: str) -> "subprocess.Popen[str]":
    """Start a program with a pool that runs a stubborn tool; returns when the tool runs."""
    program = """
from corral.client import Client
with Client(backend=backend(given)) as client:
    client.run("shell", command=f"trap '' TERM INT HUP; setsid sleep {given['mark']} & sleep {given['mark']}; true")
"""
    process = host(program, {"way": way, "mark": mark}, env={**os.environ, "TMPDIR": str(folder)}, cwd=folder)
    try:
        # The argument of sleep itself, twice, and a pool beside it.
        eventually(lambda: process.poll() is not None or len(with_marker(f"sleep\0{mark}\0")) == 2)
        assert process.poll() is None, process.communicate()
    except BaseException:
        process.kill()
        raise
    return process


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_M13_nothing_stays_when_the_host_program_is_ended(
    tmp_path: Path, way: str, number: signal.Signals
) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    mark = marker()
    process = host_with_a_running_task(tmp_path, way, mark)
    started = below(process.pid)
    assert runners_below(process.pid)
    with watched(started) as alive:
        assert alive() == len(started)
        process.send_signal(number)
        _out, err = process.communicate(timeout=60)
        eventually(alive, lambda count: count == 0)
    assert process.returncode in {-number, 130, 1}
    assert "KeyboardInterrupt" in err or number is signal.SIGKILL
    assert with_marker(f"sleep\0{mark}\0") == []
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mounts").read_text() == mounts


@in_shared_loop
async def test_M13_a_tool_that_outlives_its_shell_does_not_outlive_its_sandbox(lab: Lab) -> None:
    mark = marker()
    ended = await lab.run(request(shell(f"(setsid nohup sleep {mark} >/dev/null 2>&1 &); echo ok")))
    assert ended.stdout == "ok\n"
    assert with_marker(f"sleep\0{mark}\0") == []
