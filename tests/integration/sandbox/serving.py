"""A runner that listens, as in a pod: started as a process of its own, spoken to line by line."""

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

START_TOKEN, READ_TOKEN = "start-7f3a", "read-91bc"
_PATIENCE_SECONDS = 60


class Peer:
    """One connection to the runner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connected(cls, path: Path, token: str | None = START_TOKEN) -> Self:
        """Connect, and say who it is."""
        peer = cls(*await asyncio.open_unix_connection(str(path), limit=64 << 20))
        if token is not None:
            await peer.send(op="hello", token=token)
        return peer

    async def send(self, **message: Any) -> None:
        await self.send_line(json.dumps(message).encode())

    async def send_line(self, line: bytes) -> None:
        self.writer.write(line + b"\n")
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await self.writer.drain()

    async def next(self) -> dict[str, Any]:
        """Return the next line; ConnectionError if there will be none."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            line = await self.reader.readline()
        if not line:
            raise ConnectionResetError("the runner closed the connection")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def until(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Return everything up to the first frame of a type, with these fields."""
        seen = []
        while True:
            frame = await self.next()
            seen.append(frame)
            if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                return seen

    async def is_dropped(self) -> bool:
        """Whether the runner closes the connection."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


class Serving:
    """The runner's process, and where it listens."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path, workspace: Path) -> None:
        self.process = process
        self.path = path
        self.workspace = workspace

    async def peer(self, token: str | None = START_TOKEN) -> Peer:
        return await Peer.connected(self.path, token)

    @classmethod
    @asynccontextmanager
    async def started(cls, folder: Path, **settings: Any) -> AsyncIterator[Self]:
        """Start it in a folder, without a sandbox around: what is tested is what it says."""
        workspace = folder / "workspace"
        workspace.mkdir()
        path = folder / "s"
        environment = {
            "CORRAL_START_TOKEN_SHA256": hashlib.sha256(START_TOKEN.encode()).hexdigest(),
            "CORRAL_READ_TOKEN_SHA256": hashlib.sha256(READ_TOKEN.encode()).hexdigest(),
            "CANARY_SECRET": "canary-in-the-environment",
        }
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            values = {
                "descriptor": listener.fileno(),
                "readable": [sys.prefix, sys.base_prefix, *sys.path],
                **settings,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "corral_runner", "serve", json.dumps(values)],
                cwd=workspace,
                env=environment,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        try:
            yield cls(process, path, workspace)
            # Whatever it was told, it lives.
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


def start_request(
    run: dict[str, Any], ident: str = "one", uid: str = "owner", **fields: Any
) -> dict[str, Any]:
    """Make a ``start`` request as it is on the wire."""
    execution = {"id": ident, "run": run, "permissions": ["read", "write", "execute"], **fields}
    return {"op": "start", "owner": {"uid": uid, "attempt": 1}, "execution": execution}


def sequence(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames if "seq" in frame]
