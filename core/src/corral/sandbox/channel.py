"""The owner's end of a runner's connection: lines out, frames in."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from corral.api import Frame, parse_frame
from corral.sandbox.errors import RequestRefusedError, SandboxLostError
from corral.sandbox.port import ExecutionRequest

#: A runner's lines are at most 1 MiB; one that sends more is not a runner of ours.
_MAX_LINE_BYTES = 2 << 20
#: Base64 of this stays below the line limit.
_PUT_BYTES = 512 * 1024


class RunnerChannel(asyncio.Protocol):
    """Keeps every frame, so that any number of readers may follow from any number."""

    #: False where there is one reader, who reads each frame once: megabytes of output then do not pile up.
    keeps_frames = True

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._frames: list[dict[str, Any]] = []
        self._refusal: RequestRefusedError | None = None
        #: Id of the execution that was asked for last.
        self._execution: str | None = None
        self._lost: str | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._replies: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it with every event loop: uvloop's are of a class of their own.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b'{"op":"follow"}\n')

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            self._end(f"the runner sent a line of more than {_MAX_LINE_BYTES} bytes")
            self.close()
            return
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, RecursionError, TypeError, KeyError):
                self._end("the runner sent something that is no frame")
                self.close()
                return
        self._wake()

    def _take(self, message: dict[str, Any]) -> None:
        if "seq" in message:
            self._frames.append(message)
            return
        if message["type"] == "error":
            if message.get("execution", self._execution) != self._execution:
                return  # about an earlier start, which its owner has given up already
            self._refusal = self._refusal or RequestRefusedError(message["code"], message["message"])
        self._replies.put_nowait(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the runner ended" if exc is None else f"the connection broke: {exc}")

    # --- the owner's side ---

    @property
    def lost(self) -> str | None:
        """Why nothing will come any more, None while something may."""
        return self._lost

    def fail(self, why: str) -> None:
        """Give the connection up for a reason that the other end could not tell."""
        self._end(why)
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one request.

        Raises:
            SandboxLostError: the connection has ended.
        """
        if self._lost is not None or self._transport is None:
            raise SandboxLostError(self._lost or "the sandbox is not connected")
        self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        if not self._writable.is_set():
            await self._writable.wait()

    async def put(self, path: str, data: bytes, mode: int) -> None:
        pieces = [data[start : start + _PUT_BYTES] for start in range(0, len(data), _PUT_BYTES)] or [b""]
        for number, piece in enumerate(pieces):
            encoded = base64.b64encode(piece).decode("ascii")
            await self.send({"op": "put", "path": path, "data": encoded, "mode": mode, "append": number > 0})

    async def start(self, request: ExecutionRequest) -> None:
        """Start an execution; see ``Sandbox.start``. What was refused before is forgotten."""
        self._refusal = None
        self._execution = request.id
        await self.send(request.to_runner())

    async def get(self, path: str) -> bytes:
        """Read a file; see ``Sandbox.get``."""
        while not self._replies.empty():
            self._replies.get_nowait()
        await self.send({"op": "get", "path": path})
        content = bytearray()
        while True:
            reply = await self._replies.get()
            if reply is None:
                raise SandboxLostError(self._lost)
            if reply["type"] == "error":
                self._refusal = None
                raise RequestRefusedError(reply["code"], reply["message"])
            content += base64.b64decode(reply["data"])
            if reply["last"]:
                return bytes(content)

    async def first_frame(self) -> None:
        """Wait until the runner speaks.

        Raises:
            RequestRefusedError: its first word was that it cannot serve.
            SandboxLostError: the connection ended before.
        """
        async for _frame in self.frames():
            return

    async def ended(self) -> None:
        """Wait until nothing will come any more; ``lost`` then says why."""
        while self._lost is None:
            await self._news()

    async def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        """Yield parsed frames; see ``Sandbox.frames``."""
        position = first
        while True:
            while position < len(self._frames):
                frame = self._frames[position]
                if not self.keeps_frames:
                    self._frames[position] = {}
                position += 1
                yield parse_frame(frame)
            if self._refusal is not None:
                raise self._refusal
            if self._lost is not None:
                raise SandboxLostError(self._lost)
            await self._news()

    async def _news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._writable.set()
            self._replies.put_nowait(None)
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
