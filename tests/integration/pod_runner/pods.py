"""A runner as a pod has it: the first process of its container, not root, on an address of its own.

Two bubblewraps stand for what a kubelet makes: the outer one is the pod, with its network and its volume, the inner
one the container. What speaks to the runner has another address, as the operator's pod would.
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from corral.sandbox.bubblewrap import Installation, bind_system
from integration.pod_runner import pod_network, taken_listener
from integration.sandbox import cramped
from integration.sandbox.serving import READ_TOKEN, START_TOKEN, Peer

MIB = 1 << 20
_PATIENCE_SECONDS = 60
_PORT = 7070
_TESTS = Path(__file__).parents[2]
#: As the Dockerfile's entry point has it.
_START = "import sys;sys.path.insert(0,'/opt/corral/lib');from corral_runner.__main__ import main;main()"
_OUTER_LAYERS = ["pidns", "mountns", "netns", "ipcns", "utsns"]


@dataclass(frozen=True)
class Container:
    """What differs between the pods of the tests."""

    #: Into the runner's settings.
    settings: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    host: str = pod_network.POD
    #: Size of the one volume behind /workspace, /tmp and /dev/shm.
    volume_bytes: int = 256 * MIB
    #: What the container refuses the runner; see ``cramped``.
    refuses: Sequence[str] = ()
    #: A directory that is the container's /sys/fs/cgroup.
    cgroup: Path | None = None
    #: A directory on a disk that is the container's workspace instead of one of the volume.
    disk: Path | None = None


class Pod:
    """A running one."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", host: str, sockets: list[socket.socket], runner: int
    ) -> None:
        self.process = process
        self._host = host
        #: Listens where a network policy must refuse connections.
        self.forbidden, *self._sockets = sockets
        #: The runner's process id, as this machine sees it.
        self.runner = runner
        self._peers: list[Peer] = []

    @property
    def ended(self) -> int | None:
        """The runner's exit status, None while it runs."""
        return self.process.poll()

    async def peer(self, token: str | None = START_TOKEN) -> Peer:
        """Connect from the neighbour's address, and say who it is."""
        peer = Peer(*await self._open())
        self._peers.append(peer)
        if token is not None:
            await peer.send(op="hello", token=token)
        return peer

    async def reader(self) -> Peer:
        return await self.peer(READ_TOKEN)

    async def knock(self) -> socket.socket:
        """Connect to where a policy must refuse connections, from the pod's own network; wait for no answer."""
        found = self._sockets.pop(0)
        found.setblocking(False)
        found.connect_ex((pod_network.NEIGHBOUR, pod_network.FORBIDDEN_PORT))
        return found

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        found = next(each for each in self._sockets if each.family == family)
        self._sockets.remove(found)
        found.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                try:
                    await loop.sock_connect(found, (self._host, _PORT))
                    break
                except (
                    ConnectionRefusedError,
                    ConnectionAbortedError,
                ):  # not yet; the second follows on the first
                    assert self.ended is None, "the runner did not start"
                    await asyncio.sleep(0.01)
        return await asyncio.open_connection(sock=found, limit=64 << 20)

    def terminate(self) -> None:
        """Do what the kubelet does first when a pod is deleted."""
        os.kill(self.runner, signal.SIGTERM)

    @classmethod
    @asynccontextmanager
    async def started(cls, container: Container = Container()) -> AsyncIterator[Self]:
        """Start one; nothing of it is left afterwards."""
        ours, theirs = socket.socketpair()
        told, tell = os.pipe()
        with ours, theirs:
            command = _command(container, theirs.fileno(), tell)
            process = subprocess.Popen(command, pass_fds=[theirs.fileno(), tell], stdin=subprocess.DEVNULL)
            os.close(tell)
            theirs.close()
            sockets: list[socket.socket] = []
            try:
                count = 1 + pod_network.PEERS + pod_network.PEERS6
                _data, descriptors, _flags, _address = await asyncio.to_thread(
                    socket.recv_fds, ours, 1, count
                )
                sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
                with open(told, "rb") as file:
                    info = json.loads(await asyncio.to_thread(file.read))
                pod = cls(process, container.host, sockets, info["child-pid"])
                try:
                    yield pod
                finally:
                    for peer in pod._peers:
                        await peer.close()
            finally:
                process.kill()
                process.wait()
                for each in sockets:
                    each.close()


def _command(container: Container, control: int, tell: int) -> list[str]:
    found = Installation.of_this_process()
    bwrap = str(found.bwrap)
    pod = [
        *(bwrap, "--unshare-user", "--unshare-net", "--cap-add", "CAP_NET_ADMIN", "--die-with-parent"),
        *("--dev-bind", "/", "/", "--size", str(container.volume_bytes), "--tmpfs", "/mnt"),
        *(str(found.python), pod_network.__file__, str(control)),
    ]
    places = {"workspace": "/workspace", "tmp": "/tmp", "shm": "/dev/shm"}
    volume = [word for name, place in places.items() for word in ("--bind", f"/mnt/{name}", place)]
    if container.disk is not None:
        volume += ["--bind", str(container.disk), "/workspace"]
    if container.cgroup is not None:
        volume += ["--ro-bind", str(container.cgroup), "/sys/fs/cgroup"]
    outside = [] if found.prefix == Path("/usr") else ["--ro-bind", str(found.prefix), str(found.prefix)]
    return [
        *pod,
        *(bwrap, "--unshare-user", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts"),
        *("--uid", "65532", "--gid", "65532", "--info-fd", str(tell), "--die-with-parent", "--new-session"),
        *bind_system(writable=False),
        *outside,
        *("--ro-bind", str(found.library), "/opt/corral/lib", "--ro-bind", str(_TESTS), "/opt/tests"),
        *("--dev", "/dev", "--proc", "/proc", *volume, "--remount-ro", "/", "--chdir", "/workspace"),
        *("--clearenv", *_environment(container)),
        *_refusals(found, container.refuses),
        *(str(found.python), "-I", "-S", "-B", "-X", "utf8", "-c", _START),
        *("serve", json.dumps(_settings(found, container))),
    ]


def _settings(found: Installation, container: Container) -> dict[str, Any]:
    return {
        "listen": {"port": _PORT},
        "fileSystems": ["/workspace", "/tmp", "/dev/shm"],
        "outer": _OUTER_LAYERS,
        "readable": [str(found.prefix)],
        **container.settings,
    }


def _environment(container: Container) -> list[str]:
    values = {
        "CORRAL_LISTEN_HOST": container.host,
        "CORRAL_START_TOKEN_SHA256": hashlib.sha256(START_TOKEN.encode()).hexdigest(),
        "CORRAL_READ_TOKEN_SHA256": hashlib.sha256(READ_TOKEN.encode()).hexdigest(),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        **container.env,
    }
    return [word for name, value in values.items() for word in ("--setenv", name, value)]


def _refusals(found: Installation, refuses: Sequence[str]) -> list[str]:
    """Return the start of a command line: what takes something from the container and becomes the rest."""
    start = (
        "import sys,runpy;sys.path.insert(0,'/opt/corral/lib');sys.argv=sys.argv[1:];"
        "runpy.run_path(sys.argv[0],run_name='__main__')"
    )
    command = []
    for what in refuses:
        path = taken_listener.__file__ if what == "no-notifications" else cramped.__file__
        arguments = [] if what == "no-notifications" else [what]
        inside = f"/opt/tests/{Path(path).relative_to(_TESTS)}"
        command += [str(found.python), "-I", "-c", start, inside, *arguments]
    return command
