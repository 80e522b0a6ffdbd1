"""The host's side of a nursery: starts it in bubblewrap, asks it for cells, ends it."""

import array
import asyncio
import json
import os
import signal
import socket
from contextlib import suppress

from corral.sandbox.bubble import Bubble, dead, writable
from corral.sandbox.bubblewrap import Installation, Launch
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import SandboxError, SandboxStartError
from corral.sandbox.profile import Profile


class Cell:
    """One sandbox of a nursery: a connection to its runner and a handle on its first process."""

    def __init__(self, channel: RunnerChannel) -> None:
        self.channel = channel
        self.pidfd: int | None = None
        self._killed = False
        self._abandoned = False
        #: Done when the nursery has answered: the cell runs, or failed to.
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def up(self) -> None:
        """Wait until its runner speaks; see ``Enclosure.up``."""
        await asyncio.shield(self.made)
        await self.channel.first_frame()

    def kill(self) -> None:
        """End it at once; see ``Enclosure.kill``."""
        self._killed = True
        self.channel.close()
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                # The first process of a pid namespace takes every other with it.
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def adopt(self, pidfd: int) -> None:
        """Take the handle that the nursery has sent."""
        self.pidfd = pidfd
        if self._killed:
            self.kill()
        if self._abandoned:
            self.pidfd = None
            os.close(pidfd)
        if not self.made.done():
            self.made.set_result(None)

    def abandon(self) -> None:
        """End it as soon as it is made; nobody will wait for its end."""
        self._abandoned = True
        self.kill()

    def fail(self, error: SandboxError) -> None:
        """Give it up: it was not made."""
        self.channel.fail(str(error))
        if not self.made.done():
            self.made.set_exception(error)
            self.made.exception()  # looked at by who waits; nobody need

    async def gone(self) -> None:
        """Wait until its first process, and so every process of it, is dead."""
        await asyncio.shield(self.made)
        if self.pidfd is not None:
            pidfd, self.pidfd = self.pidfd, None
            await dead(pidfd)


class Nursery:
    """A running nursery. Create with ``Nursery.start``."""

    def __init__(self, bubble: Bubble, control: socket.socket) -> None:
        self._bubble = bubble
        self._control = control
        self._cells: dict[int, Cell] = {}
        self._count = 0
        self._asking = asyncio.Lock()
        self._conclusion: asyncio.Task[None] | None = None
        #: Why it serves no more, None while it does.
        self.ended: SandboxError | None = None
        #: One of its cells has come up.
        self.proven = False
        asyncio.get_running_loop().add_reader(control, self._on_answer)

    @classmethod
    def start(cls, installation: Installation, launch: Launch, profile: Profile) -> "Nursery":
        """Start bubblewrap. Returns before it is up; what goes wrong is told by the first cell."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                ours.setblocking(False)
                return cls(Bubble.start(installation, launch, profile, theirs), ours)
            except BaseException:
                ours.close()
                raise

    async def cell(self) -> Cell:
        """Ask for a cell. Returns at once; requests to it are queued until it is up.

        Raises:
            SandboxError: the nursery has ended, or could not be asked.
        """
        if self.ended is not None:
            raise self.ended
        ours, theirs = socket.socketpair()
        with theirs:
            channel = RunnerChannel()
            await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
            self._count += 1
            number = self._count
            cell = self._cells[number] = Cell(channel)
            try:
                await self._ask(number, theirs)
            except OSError as error:
                # Such as ETOOMANYREFS: too many descriptors of this user are on their way. The others go on.
                self._cells.pop(number, None)
                failure = SandboxStartError(f"the nursery could not be asked for a sandbox: {error.strerror}")
                cell.fail(failure)
                raise failure from error
            except BaseException:
                cell.abandon()
                raise
        return cell

    async def _ask(self, number: int, theirs: socket.socket) -> None:
        request = [json.dumps({"cell": number}).encode()]
        async with self._asking:
            while True:
                try:
                    socket.send_fds(self._control, request, [theirs.fileno()])
                except BlockingIOError:  # more wait for a cell than the socket holds requests
                    await writable(self._control.fileno())
                except (BrokenPipeError, ConnectionResetError):
                    self._end(None)
                    return
                else:
                    return

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
        cell = self._cells.pop(answer["cell"], None)
        if "error" in answer and cell is not None:
            cell.fail(SandboxStartError(answer["error"]))
        for descriptor in array.array("i", rights[0][2] if rights else b""):
            if cell is None:
                os.close(descriptor)
            else:
                cell.adopt(descriptor)

    def _end(self, error: Exception | None) -> None:
        """The nursery is gone: find out why, and tell everybody who waits for a cell."""
        if self.ended is None:
            self.ended = SandboxStartError("the nursery has ended")
            asyncio.get_running_loop().remove_reader(self._control)
            self._conclusion = asyncio.get_running_loop().create_task(self._conclude(error))

    async def _conclude(self, error: Exception | None) -> None:
        await self._bubble.gone()
        self._control.close()
        self.ended = self._bubble.explain(error)
        for cell in self._cells.values():
            cell.fail(self.ended)
        self._cells.clear()

    async def close(self) -> None:
        """End the nursery and every cell of it. Safe to call twice."""
        self._end(None)
        assert self._conclusion is not None
        await asyncio.shield(self._conclusion)
