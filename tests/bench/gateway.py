"""``make bench-gateway``: what the gateway's door costs. Ratios within one run; nothing here is a test.

- How many `GET /v1/tools` a second one core answers, authenticated, limited and audited, against a bare FastAPI route
  that returns the same body, and against one that returns next to nothing. In turn, with wrk on another core.
- What `POST /tools/execute` adds to the embedded executor, in turn with it.
- What a thousand open event streams take.
"""

import argparse
import asyncio
import http.client
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.statistics import Series
from corral.client import AsyncClient

#: The server's core, and the one of what asks.
_SERVER_CORE, _CLIENT_CORE = 0, 1
_CALCULATE = {"expression": "42 + 58"}
_BARE = """
import json, sys
import uvicorn
from fastapi import FastAPI
from corral.catalogue import Catalogue

app = FastAPI()
tools = {"items": [tool.to_wire() for tool in Catalogue.builtin().discover()]}

@app.get("/same")
async def same() -> dict:
    return tools

@app.get("/little")
async def little() -> dict:
    return {"ok": True}

uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""
_CONSOLE = Console(stderr=True)


class Gateway:
    """One that was started as a user would, with limits that are counted and never reached."""

    def __init__(self, url: str, key: str, pid: int) -> None:
        self.url, self.key, self.pid = url, key, pid

    def connection(self) -> http.client.HTTPConnection:
        """Open a connection that is kept."""
        address = urlsplit(self.url)
        return http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)


@contextmanager
def gateway(directory: Path) -> Iterator[Gateway]:
    """Run `corral serve`."""
    log = directory / "serve.log"
    env = {
        **os.environ,
        "PORT": "0",
        "CORRAL_METRICS_PORT": "0",
        "CORRAL_GRPC_PORT": "0",
        "CORRAL_RATE_LIMIT_CALLER": "10000000/minute",
        "CORRAL_RATE_LIMIT_GLOBAL": "10000000/minute",
        "CORRAL_LOG_FORMAT": "json",
    }
    corral = Path(sys.executable).with_name("corral")
    with log.open("wb") as file:
        process = subprocess.Popen([corral, "serve"], cwd=directory, env=env, stdout=file, stderr=file)
    try:
        found = _wait(lambda: re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()), log)
        (key,) = re.findall(r"corral_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", log.read_text())
        yield Gateway(found[1], key, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def bare() -> Iterator[str]:
    """Run FastAPI with nothing in front of its routes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _BARE, str(port)])
    try:
        _pin(process.pid)
        _wait(lambda: _listens(port), Path(os.devnull))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def rate(url: str, seconds: int, *headers: str) -> float:
    """Return requests a second over 16 connections that are kept."""
    command = ["taskset", "-c", str(_CLIENT_CORE), "wrk", "-t1", "-c16", f"-d{seconds}s", *headers, url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise SystemExit(text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]


def rates(door: Gateway, rounds: int) -> dict[str, Series]:
    """Measure the three in turn."""
    series = {name: Series() for name in ("bare, next to nothing", "bare, same body", "GET /v1/tools")}
    with bare() as url:
        for _ in track(range(rounds), "requests a second", console=_CONSOLE):
            series["bare, next to nothing"].add(rate(f"{url}/little", 2))
            series["bare, same body"].add(rate(f"{url}/same", 2))
            series["GET /v1/tools"].add(rate(f"{door.url}/v1/tools", 2, "-H", f"X-API-Key: {door.key}"))
    return series


async def added(door: Gateway, rounds: int) -> dict[str, Series]:
    """Measure the executor alone and through the gateway, in turn; milliseconds."""
    series = {name: Series() for name in ("embedded executor", "POST /tools/execute", "added")}
    connection = door.connection()
    body = json.dumps({"tool_name": "calculator", "parameters": _CALCULATE})
    # A result from before would be no execution.
    headers = {"X-API-Key": door.key, "Content-Type": "application/json", "Cache-Control": "no-cache"}

    def through() -> float:
        began = time.perf_counter()
        connection.request("POST", "/tools/execute", body, headers)
        answer = json.loads(connection.getresponse().read())
        assert answer["output"] == 100, answer
        return (time.perf_counter() - began) * 1000

    async with AsyncClient(waiting=2) as client:

        async def alone() -> float:
            began = time.perf_counter()
            task = await client.run("calculator", _CALCULATE)
            assert task.result == 100, task.status
            return (time.perf_counter() - began) * 1000

        for _ in range(20):
            through()
            await alone()
        for _ in track(range(rounds), "latency", console=_CONSOLE):
            await asyncio.sleep(0.03)  # a sandbox is waiting again
            first = await alone()
            await asyncio.sleep(0.03)
            second = through()
            series["embedded executor"].add(first)
            series["POST /tools/execute"].add(second)
            series["added"].add(second - first)
    return series


def streams(door: Gateway, count: int) -> tuple[float, float]:
    """Open event streams; return the gateway's megabytes before and with them."""
    connection = door.connection()
    headers = {"X-API-Key": door.key}
    task = json.dumps({"tool": "shell", "arguments": {"command": "echo begun; sleep 300"}})
    connection.request("POST", "/v1/tasks", task, headers)
    uid = json.loads(connection.getresponse().read())["metadata"]["uid"]
    address = urlsplit(door.url)
    request = f"GET /v1/tasks/{uid}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {door.key}\r\n\r\n".encode()
    before = _megabytes(door.pid)
    sockets = []
    for _ in track(range(count), "event streams", console=_CONSOLE):
        stream = socket.create_connection((address.hostname, address.port))
        stream.sendall(request)
        sockets.append(stream)
    for stream in sockets:
        received = b""
        while b"event: " not in received:
            received += stream.recv(4096) or _hung_up()
    during = _megabytes(door.pid)
    connection.request("DELETE", f"/v1/tasks/{uid}", headers=headers)
    connection.getresponse().read()
    for stream in sockets:
        stream.close()
    return before, during


def _hung_up() -> bytes:
    raise SystemExit("the gateway hung up on a stream")


def _megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def _pin(pid: int) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {_SERVER_CORE})


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(ready: Any, log: Path) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"it does not serve:\n{log.read_text()}")


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-gateway BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of two seconds for each rate")
    parser.add_argument("--calls", type=int, default=300, help="of POST /tools/execute")
    parser.add_argument("--streams", type=int, default=1000)
    options = parser.parse_args()
    missing = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} not found: apt-get install wrk util-linux")
    output = Console()
    output.print(f"{platform.platform()}, {os.cpu_count()} cores, uid {os.geteuid()}")
    with tempfile.TemporaryDirectory() as directory, gateway(Path(directory)) as door:
        calls = await added(door, options.calls)
        latency = Table("", "p50 ms", "p90 ms", "p99 ms", "target", title="One calculator call")
        for name, values in calls.items():
            target = "≤ 3 at p50" if name == "added" else ""
            latency.add_row(name, *(f"{values.quantile(q):.2f}" for q in (0.5, 0.9, 0.99)), target)
        output.print(latency)

        before, during = streams(door, options.streams)
        output.print(
            f"{options.streams} event streams: {before:.0f} MB before, {during:.0f} MB with them (target: < 300)"
        )

        _pin(door.pid)
        measured = rates(door, options.rounds)
        ours = measured["GET /v1/tools"].quantile(0.5)
        table = Table("", "requests/s, p50", "ours / this", "target", title="One core")
        for name, values in measured.items():
            middle = values.quantile(0.5)
            table.add_row(
                name, f"{middle:.0f}", f"{ours / middle:.2f}", "≥ 0.5" if name.startswith("bare") else ""
            )
        output.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
