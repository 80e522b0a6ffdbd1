"""Runners on TCP: the real one, as a process, and one that does what a test tells it to."""

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

from corral.sandbox.pod.tokens import runner_proof, token_sha256

TOKEN = "start-token"
READY = {
    "type": "ready",
    "runner": "1",
    "protocol": 1,
    "isolation": ["seccomp"],
    "weakened": ["ceilings"],
}
RESULT = {"type": "result", "reason": "Completed", "message": "", "result": 7, "usage": {}}


@asynccontextmanager
async def real_runner(folder: Path) -> AsyncIterator[int]:
    """Start the runner as a process of its own, without a sandbox around, and give the port that leads to it.

    It listens on a Unix socket behind that port: what comes over the loopback it takes for its own tool, and drops.
    """
    workspace, path = folder / "workspace", folder / "s"
    workspace.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        settings = {"descriptor": listener.fileno(), "readable": [sys.prefix, sys.base_prefix, *sys.path]}
        process = subprocess.Popen(
            [sys.executable, "-m", "corral_runner", "serve", json.dumps(settings)],
            cwd=workspace,
            env={
                "CORRAL_START_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                "CORRAL_READ_TOKEN_SHA256": hashlib.sha256(b"other").hexdigest(),
            },
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(cast("asyncio.Task[None]", asyncio.current_task()))
        inside, outside = await asyncio.open_unix_connection(str(path))
        await asyncio.gather(_pump(reader, outside), _pump(inside, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        process.kill()
        process.wait()
        server.close()
        if relays:
            await asyncio.wait(relays, timeout=20)
        await asyncio.sleep(0.02)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class ScriptedRunner:
    """Speaks docs/runner-protocol.md, and breaks where it is told to."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = [READY]
        self.owner: dict[str, Any] | None = None
        self.executions: list[str] = []
        self.retired = False
        #: Requests that came and change something.
        self.requests: list[dict[str, Any]] = []
        #: What peers have said to be allowed in.
        self.tokens: list[str] = []
        self.connections = 0
        #: What a start brings.
        self.brings: list[dict[str, Any]] = [{"type": "started", "pid": 1, "attempt": 1}, RESULT]
        #: The connection ends after so many frames, once.
        self.breaks_after: int | None = None
        #: Instead of an answer to ``start``.
        self.refuses: str | None = None
        #: Sent as they are when somebody connects, instead of anything else.
        self.says: list[bytes] | None = None
        #: What is sent as it is, as fast as it is read, to who follows from a number on, instead of frames.
        self.floods: Callable[[int], Iterator[bytes]] | None = None
        self.flooded_bytes = 0
        #: Who followed has hung up in the midst of that.
        self.is_cut_off = False
        #: Reads nothing more once it has said whom it serves.
        self.reads_no_more = False
        self.is_silent = False
        self.port = 0
        #: The token whose pod it is.
        self.token = TOKEN
        self._writers: set[asyncio.StreamWriter] = set()
        self._followers: set[asyncio.StreamWriter] = set()
        self._flooding: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        runner = cls()
        server = await asyncio.start_server(runner._serve, "127.0.0.1", 0, limit=4 << 20)
        runner.port = server.sockets[0].getsockname()[1]
        try:
            yield runner
        finally:
            server.close()
            runner.hang_up()
            for task in runner._flooding:
                task.cancel()
            await asyncio.sleep(0.01)

    def hang_up(self) -> None:
        """End every connection as a node does that reboots."""
        for writer in self._writers:
            writer.transport.abort()

    def bring(self, *frames: dict[str, Any]) -> None:
        """Send frames to who follows."""
        for frame in frames:
            self.frames.append({"execution": self.executions[-1] if self.executions else None, **frame})
        for writer in self._followers:
            self._send(writer, len(self.frames) - len(frames))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(ConnectionError):
            for line in self.says or ():
                writer.write(line)
            async for line in reader:
                if self.says is None and not self.is_silent:
                    self._take(json.loads(line), writer)
        self._writers.discard(writer)
        self._followers.discard(writer)
        writer.close()

    def _take(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        match request["op"]:
            case "prove":
                proof = {"type": "proof", "proof": runner_proof(token_sha256(self.token), request["nonce"])}
                writer.write(json.dumps(proof).encode() + b"\n")
            case "follow":
                self._followers.add(writer)
                first = request.get("from", 0)
                if self.floods is None:
                    self._send(writer, first)
                else:
                    self._flooding.add(asyncio.create_task(self._flood(writer, self.floods(first))))
            case "describe" | "retire" as asked:
                self.retired |= asked == "retire" and self.owner is None
                answer = {
                    "type": "description",
                    "owner": self.owner,
                    "executions": self.executions,
                    "running": False,
                    "retired": self.retired,
                }
                writer.write(json.dumps(answer).encode() + b"\n")
                if self.reads_no_more:
                    cast("asyncio.Transport", writer.transport).pause_reading()
            case "start":
                self.requests.append(request)
                ident = request["execution"]["id"]
                if self.refuses is not None:
                    answer = {"type": "error", "code": self.refuses, "message": "no", "execution": ident}
                    writer.write(json.dumps(answer).encode() + b"\n")
                elif ident not in self.executions:
                    self.owner, self.executions = request["owner"], [*self.executions, ident]
                    self.bring(*self.brings)
            case "hello":
                self.tokens.append(request["token"])
            case _:
                self.requests.append(request)

    async def _flood(self, writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                self.flooded_bytes += len(piece)
        except ConnectionError:
            self.is_cut_off = True

    def _send(self, writer: asyncio.StreamWriter, first: int) -> None:
        for seq, frame in enumerate(self.frames[first:], start=first):
            if self.breaks_after is not None and seq >= self.breaks_after:
                self.breaks_after = None
                asyncio.get_running_loop().call_later(0.02, writer.transport.abort)
                return
            writer.write(json.dumps({"seq": seq, "t": float(seq), **frame}).encode() + b"\n")
