"""What the daemon says of a sandbox: its limits, late ones too, and what it leaves behind."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest
from docker.transport.unixconn import UnixHTTPConnection

from corral.sandbox.docker import DockerBackend, DockerOptions
from corral.sandbox.docker.container import Room, runner_container
from corral.sandbox.docker.leftovers import OWNER_LABEL, OwnerProcess
from corral.sandbox.docker.sandbox import DockerSandbox
from corral.sandbox.errors import IsolationUnavailableError, SandboxStartError
from corral.sandbox.port import SandboxNeeds
from corral.sandbox.profile import DEFAULT_PROFILE
from eventually import eventually_async
from sandboxes import LIMITS, MIB, Lab, request, run_in, shell, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEEDS = SandboxNeeds(LIMITS.disk_bytes)


async def acquired(backend: Any) -> DockerSandbox:
    sandbox = await backend.acquire(NEEDS)
    assert isinstance(sandbox, DockerSandbox)
    return sandbox


def containers_of(daemon: docker.APIClient, owner: OwnerProcess) -> list[str]:
    label = f"{OWNER_LABEL}={owner.labels()[OWNER_LABEL]}"
    return [each["Id"] for each in daemon.containers(all=True, filters={"label": label})]


async def test_A7_what_the_daemon_made_is_what_was_asked_for(lab: Lab, daemon: docker.APIClient) -> None:
    sandbox = await acquired(lab.backend)
    try:
        found = daemon.inspect_container(sandbox.container)
    finally:
        lab.backend.release(sandbox)
    room = Room(found["Config"]["Image"], sandbox._room.limits, LIMITS.disk_bytes)
    asked = runner_container(room, DEFAULT_PROFILE)["HostConfig"]
    host = {name: found["HostConfig"][name] for name in asked if name not in {"Init", "Mounts"}}
    assert host == {name: value for name, value in asked.items() if name not in {"Init", "Mounts"}} | {
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "none", "Config": {}},
    }
    assert (found["Mounts"], found["HostConfig"]["Binds"], found["HostConfig"]["CapAdd"]) == ([], None, None)
    assert found["HostConfig"]["Init"] is False
    assert list(found["NetworkSettings"]["Networks"]) == ["none"]
    assert found["Config"]["User"] == "65532:65532"


async def test_B7_the_limits_of_a_task_reach_a_container_that_waits(
    lab: Lab, daemon: docker.APIClient
) -> None:
    def limits(sandbox: DockerSandbox) -> tuple[int, int, int, int]:
        host = daemon.inspect_container(sandbox.container)["HostConfig"]
        return host["Memory"], host["MemorySwap"], host["PidsLimit"], host["NanoCpus"]

    await lab.backend.warm_up()  # type: ignore[attr-defined]
    for memory, processes in ((64 * MIB, 8), (2048 * MIB, 200)):
        sandbox = await acquired(lab.backend)
        what = request(shell("echo up; sleep 30"), memory_bytes=memory, processes=processes, cpu=0.5)
        await sandbox.start(what)
        await until_printed(sandbox, "up")
        total = memory + LIMITS.disk_bytes + 96 * MIB
        assert limits(sandbox) == (total, total, processes + 2 + max(4, processes // 8), 625_000_000)
        lab.backend.release(sandbox)


async def test_M2_the_engine_holds_what_the_runner_does_not_see(daemon: docker.APIClient) -> None:
    """Without the runner's look and its rlimits the cgroup's own wall ends the tool, and is named."""
    from corral.sandbox.profile import Profile

    async with DockerBackend(waiting=0, profile=Profile(frozenset({"sampling", "rlimits"}))) as backend:
        ended = await Lab(backend).shell("echo before; tail /dev/zero", memory_bytes=64 * MIB)
    assert (ended.reason, ended.stdout) == ("OutOfMemory", "before\n")
    assert ended.status.limit is not None
    assert (ended.status.limit.name, ended.status.limit.enforced_by) == ("memory", "cgroup")


async def test_what_a_dead_owner_left_is_removed_and_a_living_one_s_is_not(daemon: docker.APIClient) -> None:
    me = OwnerProcess.current()
    image = DockerOptions.of_environment().image
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    dead = replace(me, pid=child.pid, started=1)
    made = {
        name: daemon.create_container_from_config(  # type: ignore[no-untyped-call]
            {"Image": image, "Labels": owner.labels()}
        )["Id"]
        for name, owner in (("dead", dead), ("alive", me), ("elsewhere", replace(dead, space="pid:[7]")))
    }
    try:
        async with DockerBackend(waiting=0) as backend:
            await backend.acquire(NEEDS)
        left = {each["Id"] for each in daemon.containers(all=True)}
        assert {name for name, container in made.items() if container in left} == {"alive", "elsewhere"}
    finally:
        for container in made.values():
            if container in {each["Id"] for each in daemon.containers(all=True)}:
                daemon.remove_container(container, force=True)


_OWNER = """
import asyncio
from corral.sandbox.docker import DockerBackend
from corral.sandbox.docker.leftovers import OwnerProcess
from sandboxes import LIMITS, request, shell, until_printed
from corral.sandbox.port import SandboxNeeds
async def main():
    backend = DockerBackend(waiting=1)
    sandbox = await backend.acquire(SandboxNeeds(LIMITS.disk_bytes))
    await backend.warm_up()
    await sandbox.start(request(shell("echo up; sleep 600")))
    await until_printed(sandbox, "up")
    print(OwnerProcess.current().labels()["dev.corral.owner"], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_a_killed_owner_leaves_no_container(daemon: docker.APIClient) -> None:
    tests = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{_OWNER}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            label = f"{OWNER_LABEL}={await asyncio.to_thread(owner.stdout.readline)}".strip()
            assert len(daemon.containers(filters={"label": label})) == 2
        finally:
            owner.send_signal(signal.SIGKILL)
    await eventually_async(
        lambda: daemon.containers(all=True, filters={"label": label}), lambda found: found == []
    )


async def test_M12_closing_leaves_no_container_and_no_volume(daemon: docker.APIClient) -> None:
    volumes = {volume["Name"] for volume in daemon.volumes()["Volumes"] or ()}
    before = set(containers_of(daemon, OwnerProcess.current()))
    async with DockerBackend(waiting=2) as backend:
        sandbox = await acquired(backend)
        await sandbox.start(request(shell("echo up; sleep 60")))
        await until_printed(sandbox, "up")
        await backend.warm_up()
        task = asyncio.create_task(backend.acquire(SandboxNeeds(MIB * 32)))  # in the middle of being made
        await asyncio.sleep(0.05)
        task.cancel()
    assert set(containers_of(daemon, OwnerProcess.current())) <= before
    assert {volume["Name"] for volume in daemon.volumes()["Volumes"] or ()} <= volumes


async def test_a_container_that_somebody_removes_is_told_and_keeps_the_output(
    lab: Lab, daemon: docker.APIClient
) -> None:
    sandbox = await acquired(lab.backend)
    what = request(shell("echo before; sleep 60"))
    running = asyncio.create_task(run_in(sandbox, what))
    await until_printed(sandbox, "before")
    daemon.remove_container(sandbox.container, force=True)
    ended = await running
    assert (ended.reason, ended.stdout) == ("SandboxFailed", "before\n")
    assert "the container ended" in (ended.status.message or "")
    lab.backend.release(sandbox)


# --- the daemon, the image ---


@asynccontextmanager
async def proxy(path: Path) -> AsyncIterator[asyncio.Server]:
    """A way to the daemon that can be cut."""
    far = urlsplit(docker.utils.kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock").path

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(far)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                sink.close()

        pumps = asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        relays.add(pumps)
        await pumps

    relays: set[asyncio.Future[Any]] = set()
    server = await asyncio.start_unix_server(relay, path)
    try:
        yield server
    finally:
        server.close()
        for pumps in relays:
            pumps.cancel()
        path.unlink(missing_ok=True)


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not close a socket that it could not connect (docker/transport/unixconn.py): do it for it."""

    def connect(self: UnixHTTPConnection) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.unix_socket)
        except OSError:
            self.sock.close()
            raise

    monkeypatch.setattr(UnixHTTPConnection, "connect", connect)


async def test_a_daemon_that_goes_away_fails_what_runs_and_says_what_to_do(
    daemon: docker.APIClient, tmp_path: Path, tidy: None
) -> None:
    path = tmp_path / "docker.sock"
    options = replace(DockerOptions.of_environment(), host=f"unix://{path}")
    backend = DockerBackend(waiting=0, options=options)
    async with proxy(path):
        sandbox = await acquired(backend)
        running = asyncio.create_task(run_in(sandbox, request(shell("echo before; sleep 60"))))
        await until_printed(sandbox, "before")
    ended = await running
    assert (ended.reason, ended.stdout) == ("SandboxFailed", "before\n")
    with pytest.raises(SandboxStartError, match="Start Docker"):
        await backend.acquire(NEEDS)
    await backend.close()
    # Nobody could tell the daemon; the container ended with its connection.
    await eventually_async(
        lambda: sandbox.container in {each["Id"] for each in daemon.containers(all=True)},
        lambda found: not found,
    )
    async with DockerBackend(waiting=0, options=options) as fresh:
        with pytest.raises(IsolationUnavailableError, match="no Docker daemon answers") as away:
            await fresh.acquire(NEEDS)
    assert "DOCKER_HOST" in away.value.remedy


async def test_without_its_image_nothing_runs_and_the_remedy_is_named(daemon: docker.APIClient) -> None:
    options = replace(DockerOptions.of_environment(), image="corral/nowhere:1")
    async with DockerBackend(waiting=0, options=options) as backend:
        with pytest.raises(IsolationUnavailableError) as missing:
            await backend.acquire(NEEDS)
    assert "corral/nowhere:1" in missing.value.missing
    assert "make image" in missing.value.remedy
