"""A neighbour: a tool that does a little of everything all the time, and says at once if something fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from corral.api import Output, Result
from corral.sandbox.port import Sandbox
from eventually import eventually_async
from sandboxes import MIB, Lab, function, request


def sing() -> None:
    """Do one round after the other of what any tool does; print a line for each."""
    import ctypes
    import mmap
    import os
    import pty
    import socket
    import subprocess
    import threading
    import time

    libc = ctypes.CDLL(None, use_errno=True)

    def write_files() -> None:
        for directory in (".", "/tmp", "/dev/shm"):
            path = f"{directory}/canary"
            with open(path, "wb") as file:
                file.write(bytes(65536))
            os.unlink(path)

    def start_process() -> None:
        assert subprocess.run(["/bin/sh", "-c", "exit 7"], check=False).returncode == 7

    def start_thread() -> None:
        thread = threading.Thread(target=time.sleep, args=(0,))
        thread.start()
        thread.join()

    def use_memory() -> None:
        held = bytearray(8 << 20)
        held[:: mmap.PAGESIZE] = b"\1" * len(held[:: mmap.PAGESIZE])
        with mmap.mmap(-1, 65536) as shared:
            shared[0] = 1

    def use_descriptors() -> None:
        ours, theirs = socket.socketpair()
        ours.sendall(bytes(65536))
        assert len(theirs.recv(1 << 20)) > 0
        ours.close()
        theirs.close()
        for descriptor in (*pty.openpty(), *os.pipe()):
            os.close(descriptor)
        watcher = libc.inotify_init()
        assert watcher >= 0, f"inotify: {ctypes.get_errno()}"
        assert libc.inotify_add_watch(watcher, b"/tmp", 2) >= 0
        os.close(watcher)

    number = 0
    while True:
        number += 1
        for work in (write_files, start_process, start_thread, use_memory, use_descriptors):
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the neighbour has done it
                print(f"BAD {work.__name__}: {type(error).__name__}: {error}", flush=True)
        print(f"round {number}", flush=True)
        time.sleep(0.05)


class Canary:
    """The neighbour's voice."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended: Any = None

    @classmethod
    @asynccontextmanager
    async def started(cls, lab: Lab) -> AsyncIterator[Self]:
        """Let it sing in a sandbox of its own."""
        canary = cls()
        async with lab.sandbox() as sandbox:
            await sandbox.start(
                request(function(sing), wall_seconds=3600.0, cpu_seconds=3600.0, output_bytes=64 * MIB)
            )
            listening = asyncio.get_running_loop().create_task(canary._listen(sandbox))
            try:
                await eventually_async(lambda: len(canary.lines) > 0)
                yield canary
            finally:
                listening.cancel()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Whatever happens in here, the neighbour goes on as before."""
        yield
        heard = len(self.lines)
        # Two more lines: one whole round began after the other tool was gone or at its worst.
        await eventually_async(lambda: self.ended or len(self.lines) >= heard + 2)
        assert self.ended is None, self.ended
        assert [line for line in self.lines if not line.startswith("round")] == []

    async def _listen(self, sandbox: Sandbox) -> None:
        text = ""
        async for frame in sandbox.frames():
            if isinstance(frame, Output):
                text += frame.text
                *lines, text = text.split("\n")
                self.lines += lines
            elif isinstance(frame, Result):
                self.ended = frame.result
                return
