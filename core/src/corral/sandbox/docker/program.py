"""A container that is one command, in an image without the runner, behind the ``Sandbox`` port.

The engine gives the walls; output, deadline and result are looked after here. What only the runner can give is refused.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from corral.api import Frame
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.docker.container import EngineLimits, Program, Room, engine_layers, program_container
from corral.sandbox.docker.engine import Engine
from corral.sandbox.docker.streams import AttachedProtocol
from corral.sandbox.docker.verdict import Ended, result, unsupported
from corral.sandbox.errors import RequestRefusedError, SandboxError, SandboxLostError
from corral.sandbox.port import ExecutionRequest
from corral.sandbox.profile import Profile


class ProgramSandbox:
    """Started with its one execution."""

    warm = False

    def __init__(self, engine: Engine, room: Room, profile: Profile, cores: int) -> None:
        self._engine = engine
        self._room = room
        self._profile = profile
        self._cores = cores
        #: Keeps the frames for any number of readers; nobody is at its other end.
        self._log = RunnerChannel()
        self._began = time.monotonic()
        self._count = 0
        self._request: ExecutionRequest | None = None
        self._run: asyncio.Task[None] | None = None
        self._output: _Output | None = None
        self._gone: asyncio.Task[None] | None = None

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:  # noqa: ARG002 - the port's
        """Refuse: there is nobody in it who could write a file."""
        raise RequestRefusedError(
            "Unsupported", "spec.files need the runner, which this image does not have (hasRunner: false)"
        )

    async def start(self, request: ExecutionRequest) -> None:
        """Start the container with the command."""
        if self._request is not None and self._request.owner != request.owner:
            raise RequestRefusedError("OwnedByAnother", "this sandbox serves another task or attempt")
        if self._request is not None and self._request.id == request.id:
            return
        refusal = unsupported(request, half_closes=self._engine.half_closes)
        if refusal is None and self._request is not None:
            refusal = "a session needs the runner, which this image does not have (hasRunner: false)"
        if refusal is not None:
            raise RequestRefusedError("Unsupported", refusal)
        if self._gone is not None:
            raise SandboxLostError("this sandbox was killed")
        self._request = request
        launching = asyncio.get_running_loop().create_task(self._launch(request))
        self._run = launching
        await asyncio.shield(launching)

    def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        return self._log.frames(first)

    async def cancel(self) -> None:
        if self._log.lost is not None:
            raise SandboxLostError(self._log.lost)
        if self._output is not None:
            self._output.stop_for("Cancelled")

    async def get(self, path: str) -> bytes:
        raise RequestRefusedError("Unsupported", f"{path}: files come back through the runner alone")

    def kill(self) -> None:
        self.end()

    def end(self) -> "asyncio.Task[None]":
        """Kill it and return the task that waits for the last of it."""
        if self._gone is None:
            self._log.fail("the sandbox was killed")
            self._gone = asyncio.get_running_loop().create_task(self._remove())
        return self._gone

    async def close(self) -> None:
        with suppress(SandboxError):
            await asyncio.shield(self.end())

    # --- one run ---

    async def _launch(self, request: ExecutionRequest) -> None:
        limits = EngineLimits.of(request.limits, self._room.disk_bytes, self._cores)
        # Nobody counts but the engine, so its walls are the limits themselves.
        limits = replace(limits, processes=request.limits.processes, cpu=min(limits.cpu, request.limits.cpu))
        limits = replace(limits, memory_bytes=request.limits.memory_bytes + self._room.disk_bytes)
        program = Program(
            argv=tuple(request.run["command"]),
            env={"CORRAL_SANDBOX": "1", **request.env},
            may_write="write" in request.permissions or "admin" in request.permissions,
            file_size_bytes=request.limits.file_size_bytes,
            open_files=request.limits.open_files,
            cpu_seconds=request.limits.cpu_seconds,
        )
        body = program_container(replace(self._room, limits=limits), self._profile, program)
        container, connection = await self._engine.launch(body)
        output = self._output = _Output(self, container, request)
        protocol = AttachedProtocol(output, output.on_stderr, lambda: None)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=connection)
        self.tell(
            "ready",
            runner="none",
            protocol=1,
            isolation=engine_layers(self._room, self._profile),
            weakened=[*self._room.weakened, "landlock", "rlimits", "runner", "seccomp"],
        )
        self.tell("started", pid=1, attempt=request.owner.attempt)
        output.conclusion = asyncio.get_running_loop().create_task(self._conclude(output, container, request))

    async def _conclude(self, output: "_Output", container: str, request: ExecutionRequest) -> None:
        await output.watch()
        try:
            state = await self._engine.end_state(container)
        except Exception as error:  # noqa: BLE001 - the daemon or the container is gone: whatever it was, it is lost
            self._log.fail(f"the container's end could not be seen: {error}")
            return
        ended = Ended(
            stop=output.stop,
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state.get("OOMKilled")),
            stdout=bytes(output.stdout),
            wall_seconds=time.monotonic() - output.began,
            output_bytes=output.kept,
            truncated=output.stop == "OutputLimit",
        )
        self.tell("result", **result(request, ended))

    async def _remove(self) -> None:
        if self._run is not None:
            with suppress(SandboxError):
                await asyncio.shield(self._run)
        if self._output is not None:
            self._output.stop_for("Cancelled")
            await self._engine.remove(self._output.container)
            if self._output.conclusion is not None:
                await self._output.conclusion

    @property
    def half_closes(self) -> bool:
        """Whether standard input can end before the output does."""
        return self._engine.half_closes

    def kill_container(self, container: str) -> None:
        """End the program; how it ended can still be asked."""
        self._engine.kill(container)

    def tell(self, kind: str, **fields: Any) -> None:
        """Add a frame."""
        if self._log.lost is not None:
            return
        execution = {} if kind == "ready" or self._request is None else {"execution": self._request.id}
        frame = {
            "seq": self._count,
            "t": time.monotonic() - self._began,
            "type": kind,
            **execution,
            **fields,
        }
        self._count += 1
        self._log.data_received(json.dumps(frame).encode() + b"\n")


class _Output(asyncio.Protocol):
    """What a program prints, its deadline, and the reason to end it."""

    def __init__(self, sandbox: ProgramSandbox, container: str, request: ExecutionRequest) -> None:
        self.container = container
        self.began = self._heard = time.monotonic()
        self.stop: str | None = None
        self.stdout = bytearray()
        self.kept = 0
        self.conclusion: asyncio.Task[None] | None = None
        self._sandbox = sandbox
        self._request = request
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        text = self._request.run.get("stdin")
        if text is not None:
            transport.write(str(text).encode(errors="surrogatepass"))
        if transport.can_write_eof() and self._sandbox.half_closes:
            transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self._take("stdout", data)

    def on_stderr(self, data: bytes) -> None:
        self._take("stderr", data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its end says more
        self._ended.set()

    def stop_for(self, reason: str) -> None:
        """End the program; the first reason counts."""
        if self.stop is None and not self._ended.is_set():
            self.stop = reason
            self._sandbox.kill_container(self.container)

    async def watch(self) -> None:
        """Wait for its end, and end it at its deadline."""
        limits = self._request.limits
        while not self._ended.is_set():
            now = time.monotonic()
            times = {"DeadlineExceeded": self.began + limits.wall_seconds}
            if limits.idle_seconds is not None:
                times["IdleTimeout"] = self._heard + limits.idle_seconds
            reason, at = min(times.items(), key=lambda item: item[1])
            if now >= at:
                self.stop_for(reason)
                await self._ended.wait()
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), at - now)

    def _take(self, stream: str, data: bytes) -> None:
        self._heard = time.monotonic()
        room = self._request.limits.output_bytes - self.kept
        kept = data[:room]
        self.kept += len(kept)
        if kept:
            if stream == "stdout":
                self.stdout += kept
            try:
                self._sandbox.tell(stream, data=kept.decode())
            except UnicodeDecodeError:
                self._sandbox.tell(stream, base64=base64.b64encode(kept).decode("ascii"))
        if len(data) > room:
            self.stop_for("OutputLimit")
