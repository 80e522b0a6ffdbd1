"""A container whose first process is the runner, behind the ``Sandbox`` port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

from corral.api import Frame, Ready
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.docker.container import EngineLimits, Room
from corral.sandbox.docker.engine import Engine
from corral.sandbox.docker.streams import AttachedProtocol
from corral.sandbox.errors import SandboxError, SandboxLostError, SandboxStartError
from corral.sandbox.port import ExecutionRequest

_KEPT_CHARACTERS = 4000


class DockerSandbox:
    """A running one. Create with ``DockerSandbox.connected``."""

    def __init__(self, engine: Engine, container: str, room: Room, cores: int) -> None:
        self.container = container
        self.channel = RunnerChannel()
        self.warm = False
        self._engine = engine
        self._room = room
        self._limits = room.limits
        self._cores = cores
        self._said = b""
        self._gone: asyncio.Task[None] | None = None

    @classmethod
    async def connected(
        cls, engine: Engine, container: str, connection: socket.socket, room: Room, cores: int
    ) -> Self:
        """Take over a container that was just launched."""
        sandbox = cls(engine, container, room, cores)
        protocol = AttachedProtocol(sandbox.channel, sandbox._on_stderr, sandbox._on_end)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=connection)
        return sandbox

    async def up(self) -> None:
        """Wait until its runner speaks.

        Raises:
            SandboxStartError: it ended instead; nothing ran in it, and nothing is left of it.
        """
        try:
            await self.channel.first_frame()
        except SandboxLostError as error:
            await self.close()
            raise SandboxStartError(str(error)) from None

    async def layers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what isolates it, and what it does without."""
        async for frame in self.channel.frames():
            if isinstance(frame, Ready):
                return frame.isolation, frame.weakened
        raise SandboxLostError(self.channel.lost)

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        await self.channel.put(path, data, mode)

    async def start(self, request: ExecutionRequest) -> None:
        """Set the engine's limits for this execution, and start it."""
        limits = EngineLimits.of(request.limits, self._room.disk_bytes, self._cores)
        if limits != self._limits and self.channel.lost is None:
            await self._engine.update(self.container, limits.update())
            self._limits = limits
        await self.channel.start(request)

    def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        return self.channel.frames(first)

    async def cancel(self) -> None:
        await self.channel.send({"op": "cancel"})

    async def get(self, path: str) -> bytes:
        return await self.channel.get(path)

    def kill(self) -> None:
        self.end()

    def end(self) -> "asyncio.Task[None]":
        """Kill it and return the task that waits for the last of it."""
        if self._gone is None:
            self.channel.close()
            self._gone = asyncio.get_running_loop().create_task(self._engine.remove(self.container))
        return self._gone

    async def close(self) -> None:
        with suppress(SandboxError):
            await asyncio.shield(self.end())

    def _on_stderr(self, data: bytes) -> None:
        self._said = (self._said + data)[-_KEPT_CHARACTERS:]

    def _on_end(self) -> None:
        """Nothing more comes: what the runner, or the runtime, said last is why."""
        text = self._said.decode(errors="replace").strip()
        if text:
            self.channel.fail(f"the container ended: {text.splitlines()[-1]}")
        elif self._gone is None:
            self.channel.fail(
                "the container ended: it was removed, its daemon stopped, or its runner was killed"
            )
