"""The host's side of a nursery: starts it in bubblewrap, asks it for cells, ends it."""

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import IO

from corral.sandbox.bubblewrap import Installation, Launch, command
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import IsolationUnavailableError, SandboxStartError
from corral.sandbox.profile import Profile

#: What bubblewrap says, and what a person can do about it.
_REMEDIES = (
    (
        (
            "setting up uid map",
            "No permissions to creat",
            "Creating new namespace failed",
            "loopback: Failed",
        ),
        "this machine does not let an ordinary user make the namespaces of a sandbox",
        "Run `corral doctor`: it names the setting and how to change it",
    ),
    (
        ("Can't mount proc", "Failed to mount proc", "mounting proc"),
        "/proc cannot be mounted here, as in a container whose runtime masks parts of it",
        "Use the Docker or Kubernetes backend from outside the container, or let its runtime unmask /proc",
    ),
)


class Cell:
    """One sandbox of a nursery: a connection to its runner and a handle on its first process."""

    def __init__(self, channel: RunnerChannel) -> None:
        self.channel = channel
        self.pidfd: int | None = None
        self._killed = False
        #: Done when the nursery has answered: the cell runs, or failed to.
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        self._killed = True
        self.channel.close()
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                # The first process of a pid namespace takes every other with it.
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def adopt(self, pidfd: int) -> None:
        self.pidfd = pidfd
        if self._killed:
            self.kill()
        if not self.made.done():
            self.made.set_result(None)

    async def gone(self) -> None:
        """Wait until its first process, and so every process of it, is dead."""
        await self.made
        if self.pidfd is None:
            return
        try:
            await _dead(self.pidfd)
        finally:
            self.pidfd = None


class Nursery:
    """A running nursery. Create with ``Nursery.start``."""

    def __init__(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._cells: dict[int, Cell] = {}
        self._count = 0
        #: Why it serves no more, None while it does.
        self.ended: Exception | None = None
        asyncio.get_running_loop().add_reader(control, self._on_answer)

    @classmethod
    def start(cls, installation: Installation, launch: Launch, profile: Profile) -> "Nursery":
        """Start bubblewrap. Returns before it is up; what goes wrong is told by the first cell."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            inherited = replace(launch, descriptor=theirs.fileno())
            # Popen's own thread must live as long as the sandbox: --die-with-parent follows the thread that
            # forked (PR_SET_PDEATHSIG in prctl(2)). The event loop's does.
            # A session of its own: Ctrl-C in a terminal is for us, who then cancel the task in good order.
            process = subprocess.Popen(
                command(installation, inherited, profile),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={},
                start_new_session=True,
            )
        return cls(process, ours)

    async def cell(self) -> Cell:
        """Ask for a cell. Returns at once; requests to it are queued until it is up."""
        if self.ended is not None:
            raise self.ended
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            channel = RunnerChannel()
            await loop.create_connection(lambda: channel, sock=ours)
            self._count += 1
            cell = self._cells[self._count] = Cell(channel)
            try:
                socket.send_fds(
                    self._control, [json.dumps({"cell": self._count}).encode()], [theirs.fileno()]
                )
            except OSError as error:
                self._end(error)
        return cell

    def _on_answer(self) -> None:
        try:
            data, rights, _flags, _address = self._control.recvmsg(4096, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(None)
            return
        answer = json.loads(data)
        cell = self._cells.pop(answer["cell"])
        if "error" in answer:
            cell.channel.fail(answer["error"])
            cell.made.set_exception(SandboxStartError(answer["error"]))
            cell.made.exception()  # looked at by who waits; nobody need
            return
        descriptors = array.array("i", rights[0][2])
        cell.adopt(descriptors[0])

    def _end(self, error: Exception | None) -> None:
        """The nursery is gone: say why to everybody who waits for a cell."""
        if self.ended is None:
            self.ended = self._explain(error)
            asyncio.get_running_loop().remove_reader(self._control)
        for cell in self._cells.values():
            cell.channel.fail(str(self.ended))
            if not cell.made.done():
                cell.made.set_exception(self.ended)
                cell.made.exception()
        self._cells.clear()

    def _explain(self, error: Exception | None) -> Exception:
        self._process.kill()
        self._process.wait()
        text = _read_rest(self._process.stderr).strip()
        for signs, missing, remedy in _REMEDIES:
            if any(sign in text for sign in signs):
                return IsolationUnavailableError(f"{missing} ({text.splitlines()[-1]})", remedy)
        why = text or str(error or f"exit status {self._process.returncode}")
        return SandboxStartError(f"the sandbox's outer process ended: {why}")

    async def close(self) -> None:
        """End the nursery and every cell of it."""
        if self.ended is None:
            self.ended = SandboxStartError("the nursery was closed")
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            # bubblewrap's death takes its pid namespace, and with it everything below, with it.
            self._process.kill()
            # Not in an executor: when the interpreter shuts down there are no threads to be had.
            await _dead(os.pidfd_open(self._process.pid))
            self._process.wait()
        self._control.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
        for cell in self._cells.values():
            if not cell.made.done():
                cell.made.set_result(None)
        self._cells.clear()


async def _dead(pidfd: int) -> None:
    """Wait until the process is dead, and close the descriptor."""
    loop = asyncio.get_running_loop()
    dead: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not dead.done():
            dead.set_result(None)

    loop.add_reader(pidfd, tell)
    try:
        await dead
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _read_rest(stream: IO[bytes] | None) -> str:
    if stream is None:
        return ""
    os.set_blocking(stream.fileno(), False)
    with suppress(BlockingIOError):
        return (stream.read() or b"").decode(errors="replace")[-4000:]
    return ""
