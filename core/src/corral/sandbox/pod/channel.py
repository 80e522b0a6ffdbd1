"""One connection to a pod's runner. Whoever took the runner over decides what comes, and what is read."""

import asyncio
import hmac
import secrets
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from corral.api import Frame, parse_frame
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import ProtocolBrokenError
from corral.sandbox.pod.allowance import Allowance
from corral.sandbox.pod.tokens import runner_proof
from corral.sandbox.port import Owner

#: A node that vanishes closes nothing: the kernel asks after 5 s of silence, every 2 s, and gives up after 3.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
#: Nobody waits for a runner that does not read. All that one is ever sent is the files of a task and its start, and an
#: API server takes no object of more than 3 MiB.
_UNSENT_BYTES = 8 << 20
#: What has come and was not followed yet; decoded, it takes some twenty times the room.
_UNREAD_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Description:
    """What a runner says of itself: whom it serves, and what it has run."""

    owner: Owner | None
    executions: tuple[str, ...]
    #: It serves nobody, and will serve nobody.
    retired: bool = False


class PodChannel(RunnerChannel):
    """A runner's connection that begins with who it is, and then who we are. Frames are read once, by one reader."""

    def __init__(self, token: str, start_sha256: str, allowance: Allowance) -> None:
        """Make it; it is no connection yet.

        Args:
            token: the start token, or the read token of who only follows.
            start_sha256: SHA-256 of the pod's start token, by which its runner proves itself.
            allowance: of all connections to this runner.
        """
        super().__init__()
        self._token = token
        self._start_sha256 = start_sha256
        self._allowance = allowance
        self._nonce = secrets.token_hex(16)
        self._proven = False
        self._description: Description | None = None
        #: Questions who it serves that were sent, and answers that came: several may ask at a time.
        self._asked = 0
        self._answered = 0
        self._unread: deque[dict[str, Any]] = deque()
        self._unread_bytes = 0
        self._paused = False
        #: Number of the next frame to come, None while nobody follows.
        self._next: int | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a proof first: the address may be another tenant's pod's by now."""
        connected: socket.socket = transport.get_extra_info("socket")
        for level, option, value in _KEEPALIVE:
            connected.setsockopt(level, option, value)
        self._transport = cast("asyncio.Transport", transport)
        self._allowance.greet()
        self._write({"op": "prove", "nonce": self._nonce})

    def data_received(self, data: bytes) -> None:
        if not self._allowance.take(len(data)):
            self._break_off("the runner sent more than its execution can bring")
            return
        super().data_received(data)
        self._unread_bytes += len(data)
        if self._unread and self._unread_bytes > _UNREAD_BYTES and self._lost is None:
            assert self._transport is not None
            self._transport.pause_reading()
            self._paused = True

    def _take_frame(self, frame: dict[str, Any]) -> None:
        if self._next is None or frame["seq"] != self._next:
            raise ValueError("not the frame that was asked for")
        self._next += 1
        self._unread.append(frame)

    def _take_answer(self, answer: dict[str, Any]) -> None:
        if not self._proven:
            self._check(answer)
        elif answer.get("type") == "description":
            self._description = _description(answer)
            self._answered += 1
        else:
            raise ValueError("no answer to anything that was asked")

    def _check(self, answer: dict[str, Any]) -> None:
        """Go on with the token, if this is the pod's runner."""
        given = str(answer.get("proof")).encode("utf-8", "replace")
        proof = runner_proof(self._start_sha256, self._nonce).encode()
        if not hmac.compare_digest(given, proof):
            raise ProtocolBrokenError("what answers at its address is not the pod's runner")
        self._proven = True
        self._write({"op": "hello", "token": self._token})
        self._asked += 1
        self._write({"op": "describe"})

    # --- the owner's side ---

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one request, without waiting until the runner reads it.

        Raises:
            ProtocolBrokenError: it has not read what was sent before.
            SandboxLostError: the connection has ended.
        """
        self._write(message)
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > _UNSENT_BYTES:
            self._break_off("the runner does not read what it is sent")
            assert self._lost is not None
            raise self._loss(self._lost)

    def speak_for(self, owner: Owner) -> None:
        """Put files for this owner from now on: the sandbox is theirs from the first one, or refuses it."""
        self._on_behalf = {"owner": owner.to_runner()}

    async def put_as_it_comes(self, path: str, pieces: AsyncIterator[bytes], mode: int) -> None:
        """Write a file whose content need not be in memory at once: no more is taken than the runner reads.

        Raises:
            RequestRefusedError: the runner refused it.
            SandboxLostError: the connection has ended.
        """
        append = False
        async for piece in pieces:
            await self.put(path, piece, mode, append=append)
            append = True
            if not self._writable.is_set():
                await self._writable.wait()
            if self._refusal is not None:
                raise self._refusal
        if not append:
            await self.put(path, b"", mode)

    async def described(self) -> Description:
        """Wait until the runner has said who it is, and whom it serves.

        Raises:
            SandboxLostError: the connection ended.
            RequestRefusedError: the runner did not take our token.
        """
        while self._description is None:
            await self._more()
        return self._description

    async def describe(self) -> Description:
        """Ask whom it serves, once it has dealt with all that was sent before.

        Raises:
            SandboxLostError: the connection ended.
            RequestRefusedError: the runner refused something that was sent before.
        """
        return await self._ask("describe")

    async def retire(self) -> Description:
        """Have it serve nobody from now on, if it serves nobody now.

        Returns:
            Whom it serves. Neither anybody nor retired: a runner that knows no such request.

        Raises:
            SandboxLostError: the connection ended.
            RequestRefusedError: the runner refused something that was sent before.
        """
        return await self._ask("retire")

    async def _ask(self, operation: str) -> Description:
        self._asked += 1
        question = self._asked
        await self.send({"op": operation})
        while self._answered < question:
            await self._more()
        if self._refusal is not None:
            raise self._refusal
        return await self.described()

    async def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        """Follow from a number on. Nothing more is read from the runner until what has come is taken."""
        self._next = first
        await self.send({"op": "follow", "from": first})
        while True:
            while self._unread:
                yield parse_frame(self._unread.popleft())
            self._unread_bytes = 0
            if self._paused and self._lost is None:
                assert self._transport is not None
                self._transport.resume_reading()
                self._paused = False
            await self._more()


def _description(answer: Mapping[str, Any]) -> Description:
    owner, executions = answer.get("owner"), answer.get("executions")
    match owner:
        case None:
            serves = None
        case {"uid": str(uid), "attempt": int(attempt)}:
            serves = Owner(uid, attempt)
        case _:
            raise ValueError("owner: expected whom it serves")
    if not isinstance(executions, list) or not all(isinstance(execution, str) for execution in executions):
        raise ValueError("executions: expected their ids")
    return Description(serves, tuple(executions), answer.get("retired") is True)
