"""The owner's end of a runner's connection: lines out, frames in."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from corral.api import Frame, parse_frame
from corral.sandbox.errors import ProtocolBrokenError, RequestRefusedError, SandboxError, SandboxLostError
from corral.sandbox.port import ExecutionRequest

#: A runner's lines are at most as long (docs/runner-protocol.md); one that sends more is not a runner of ours.
_MAX_LINE_BYTES = 1 << 20
#: As long as the runner lets the message of a refusal be.
_REFUSAL_CHARACTERS = 1000
#: Base64 of this stays below the line limit.
_PUT_BYTES = 512 * 1024


class RunnerChannel(asyncio.Protocol):
    """Keeps every frame, so that any number of readers may follow from any number."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        #: The beginning of a line whose end has not come.
        self._rest = bytearray()
        self._frames: list[dict[str, Any]] = []
        self._refusal: RequestRefusedError | None = None
        #: Id of the execution that was asked for last.
        self._execution: str | None = None
        self._lost: SandboxLostError | None = None
        self._waiters: list[asyncio.Future[None]] = []
        #: Answers to the question that somebody has asked; None while nobody has.
        self._replies: asyncio.Queue[dict[str, Any] | SandboxError] | None = None
        #: Said with every file, where others could own the sandbox.
        self._on_behalf: dict[str, Any] = {}
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
        *lines, rest = data.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest + lines[0])
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > _MAX_LINE_BYTES or (lines and len(lines[0]) > _MAX_LINE_BYTES):
            self._break_off(f"the runner sent a line of more than {_MAX_LINE_BYTES} bytes")
            return
        for line in lines:
            try:
                self._take(json.loads(line))
            except ProtocolBrokenError as error:
                self._break_off(str(error))
                return
            except (ValueError, RecursionError):
                self._break_off("the runner sent something that is no frame")
                return
        self._wake()

    def _take(self, message: Any) -> None:
        """Sort one line in.

        Raises:
            ProtocolBrokenError: it ends the connection, for a reason of its own.
            ValueError: it is none of the protocol's.
        """
        if not isinstance(message, dict):
            raise ValueError("no JSON object")  # noqa: TRY004 - what came is wrong, not the caller
        if "seq" in message:
            self._take_frame(message)
        elif message.get("type") != "error":
            self._take_answer(message)
        elif message.get("execution", self._execution) == self._execution:
            # Else it is about an earlier start, which its owner has given up already.
            refusal = _refusal(message)
            self._refusal = self._refusal or refusal
            self._reply(refusal)

    def _take_frame(self, frame: dict[str, Any]) -> None:
        self._frames.append(frame)

    def _take_answer(self, answer: dict[str, Any]) -> None:
        if answer.get("type") != "file":
            raise ValueError("no answer to anything that can be asked")
        self._reply(answer)

    def _reply(self, answer: dict[str, Any] | SandboxError) -> None:
        if self._replies is not None:
            self._replies.put_nowait(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(SandboxLostError("the runner ended" if exc is None else f"the connection broke: {exc}"))

    # --- the owner's side ---

    @property
    def lost(self) -> str | None:
        """Why nothing will come any more, None while something may."""
        return None if self._lost is None else str(self._lost)

    def fail(self, why: str) -> None:
        """Give the connection up for a reason that the other end could not tell."""
        self._end(SandboxLostError(why))
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one request.

        Raises:
            SandboxLostError: the connection has ended.
        """
        self._write(message)
        if not self._writable.is_set():
            await self._writable.wait()

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._lost is not None:
            raise self._loss(self._lost)
        if self._transport is None:
            raise SandboxLostError("the sandbox is not connected")
        self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def put(self, path: str, data: bytes, mode: int, *, append: bool = False) -> None:
        """Write a file, or more of it; see ``Sandbox.put``."""
        pieces = [data[start : start + _PUT_BYTES] for start in range(0, len(data), _PUT_BYTES)] or [b""]
        for number, piece in enumerate(pieces):
            encoded = base64.b64encode(piece).decode("ascii")
            about = {"path": path, "mode": mode, "append": append or number > 0, **self._on_behalf}
            await self.send({"op": "put", **about, "data": encoded})

    async def start(self, request: ExecutionRequest) -> None:
        """Start an execution; see ``Sandbox.start``. What was refused before is forgotten."""
        self._refusal = None
        self._execution = request.id
        await self.send(request.to_runner())

    async def get(self, path: str) -> bytes:
        """Read a file; see ``Sandbox.get``."""
        replies = self._replies = asyncio.Queue()
        content = bytearray()
        try:
            await self.send({"op": "get", "path": path})
            while True:
                reply = await replies.get()
                if isinstance(reply, SandboxError):
                    self._refusal = None
                    raise reply
                content += base64.b64decode(reply["data"])
                if reply["last"]:
                    return bytes(content)
        finally:
            self._replies = None

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
                position += 1
                yield parse_frame(self._frames[position - 1])
            await self._more()

    async def _more(self) -> None:
        """Wait for more than has come.

        Raises:
            RequestRefusedError: the runner refused a request.
            SandboxLostError: nothing more will come.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._lost is not None:
            raise self._loss(self._lost)
        await self._news()

    async def _news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _break_off(self, why: str) -> None:
        """End the connection, because the other end does not keep to the protocol."""
        self._end(ProtocolBrokenError(why))
        self.close()

    @staticmethod
    def _loss(lost: SandboxLostError) -> SandboxLostError:
        """Return a loss to raise: one exception, raised by everyone who waits, would gather all their tracebacks."""
        return type(lost)(str(lost))

    def _end(self, lost: SandboxLostError) -> None:
        if self._lost is None:
            self._lost = lost
            self._writable.set()
            self._reply(self._loss(lost))
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _refusal(error: Mapping[str, Any]) -> RequestRefusedError:
    code, message = error.get("code"), error.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        raise ValueError("no refusal")  # noqa: TRY004 - what came is wrong, not the caller
    return RequestRefusedError(code, message[:_REFUSAL_CHARACTERS].encode("utf-8", "replace").decode())
