"""One started bubblewrap: what it says, its end, and the wait until nothing of it is left."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import Self

from corral.sandbox.bubblewrap import Installation, Launch, command
from corral.sandbox.errors import IsolationUnavailableError, SandboxError, SandboxStartError
from corral.sandbox.profile import Profile

#: What bubblewrap says, and what a person can do about it.
_REMEDIES = (
    (
        (
            "setting up uid map",
            "No permissions to creat",
            "Creating new namespace failed",
            "loopback: Failed",
            "unshare user ns",
            "unshare failed",
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
_KEPT_CHARACTERS = 4000
#: A killed process that is still there so much later is stuck in the kernel, and nobody can end it.
_GONE_SECONDS = 10.0


class Bubble:
    """A bubblewrap process with everything below it. Create with ``Bubble.start``."""

    def __init__(self, process: "subprocess.Popen[bytes]", info: int) -> None:
        assert process.stderr is not None
        loop = asyncio.get_running_loop()
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._stderr = process.stderr.fileno()
        self._info = info
        self._told = b""
        self._said = b""
        #: A handle on the first process of the sandbox's pid namespace: its end is the end of all others.
        self._first: int | None = None
        #: Done when bubblewrap and the runner have let go of their standard error.
        self._quiet: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Task[None] | None = None
        self._killed = False
        os.set_blocking(self._stderr, False)
        loop.add_reader(self._stderr, self._on_said)
        loop.add_reader(info, self._on_told)

    @classmethod
    def start(
        cls, installation: Installation, launch: Launch, profile: Profile, inherited: socket.socket
    ) -> Self:
        """Start bubblewrap. Returns before it is up; what goes wrong shows in the runner's connection.

        Args:
            installation: where the parts are.
            launch: what to start, without the descriptors.
            profile: what isolates.
            inherited: the runner's end of its connection.

        Raises:
            IsolationUnavailableError: it cannot be started as things are.
        """
        ours, theirs = os.pipe()
        try:
            arguments = command(
                installation, replace(launch, descriptor=inherited.fileno(), info_descriptor=theirs), profile
            )
            # The thread that forks must live as long as the sandbox: --die-with-parent follows the thread
            # (PR_SET_PDEATHSIG in prctl(2)). The event loop's does.
            # A session of its own: Ctrl-C in a terminal is for us, who then cancel the task in good order.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[inherited.fileno(), theirs],
                env={},
                start_new_session=True,
            )
        except OSError as error:
            os.close(ours)
            raise IsolationUnavailableError(
                f"bubblewrap could not be started ({error})", "Install it again: make setup"
            ) from error
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return cls(process, ours)

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        self._killed = True
        if self._first is None and self._info != -1:
            # It is about to make its first process, or to tell of it. If bubblewrap died between the two, that process
            # would wait for it for ever, before it has asked the kernel to die with its parent. See _on_told.
            return
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
        with suppress(ProcessLookupError, OSError):
            # Not Popen.kill, which reaps a process that has ended and so gives its number free.
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def gone(self) -> None:
        """Kill it and wait until nothing of it is left. Any number may wait."""
        if self._gone is None:
            self.kill()
            self._gone = asyncio.get_running_loop().create_task(self._wait())
        await asyncio.shield(self._gone)

    def explain(self, error: Exception | None = None) -> SandboxError:
        """Say why it ended, once it is gone.

        Args:
            error: what its owner saw, for when bubblewrap says nothing.
        """
        text = self._said.decode(errors="replace").strip()
        for signs, missing, remedy in _REMEDIES:
            if any(sign in text for sign in signs):
                return IsolationUnavailableError(f"{missing} ({text.splitlines()[-1]})", remedy)
        last = text.splitlines()[-1] if text else ""
        if last.startswith(("bwrap:", "setpriv:")):
            missing = f"bubblewrap cannot make a sandbox on this machine ({last})"
            return IsolationUnavailableError(missing, "Run `corral doctor`: it names what is missing")
        why = text or str(error or f"exit status {self._process.returncode}")
        return SandboxStartError(f"the sandbox's outer process ended: {why}")

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_SECONDS):
                # Not in an executor: when the interpreter shuts down there are no threads to be had.
                await dead(self._pidfd)
                await self._quiet
                if self._first is not None:
                    await dead(self._first)
                    self._first = None
        if self._info != -1:  # it never told of its first process
            self._close_info()
            self.kill()
        self._process.wait()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._stderr)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._close_info()

    def _on_said(self) -> None:
        try:
            data = os.read(self._stderr, 65536)
        except BlockingIOError:
            return
        self._said = (self._said + data)[-_KEPT_CHARACTERS:]
        if not data:
            asyncio.get_running_loop().remove_reader(self._stderr)
            if not self._quiet.done():
                self._quiet.set_result(None)

    def _on_told(self) -> None:
        data = os.read(self._info, 4096)
        self._told += data
        try:
            first = json.loads(self._told)["child-pid"]
        except (ValueError, KeyError):
            if not data:
                self._close_info()
                if self._killed:
                    self.kill()
            return
        self._close_info()
        # Its parent, bubblewrap, is the only one who could give the number free, and it has not ended.
        with suppress(ProcessLookupError):
            self._first = os.pidfd_open(first)
        if self._killed:
            self.kill()

    def _close_info(self) -> None:
        if self._info != -1:
            asyncio.get_running_loop().remove_reader(self._info)
            os.close(self._info)
            self._info = -1


async def dead(pidfd: int) -> None:
    """Wait until the process is dead, and close the descriptor."""
    try:
        await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _finish, done)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor: int) -> None:
    """Wait until something can be written."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _finish, done)
    try:
        await done
    finally:
        loop.remove_writer(descriptor)


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)
