"""A9: slow clients, huge heads, too many connections, over real sockets; the same attacks also on uvicorn's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from grpc import aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from corral_gateway.serving.http_protocol import careful_protocol
from corral_gateway.serving.limits import ConnectionLimits
from eventually import eventually_async
from integration.gateway.calling import grpc_of, request_for
from integration.gateway.running import SLEEP, gateway_in

SHORT = ConnectionLimits(connections=100, slow_seconds=0.3, connections_of_address=100)
LONG = ConnectionLimits(connections=10, slow_seconds=60, connections_of_address=10)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """An application behind a real socket."""

    def __init__(self, port: int, refused: list[str], connections: Collection[Any]) -> None:
        self.port = port
        self.connections = connections
        self.refused = refused
        self.open: list[asyncio.StreamWriter] = []

    async def connect(self, data: bytes = b"") -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.append(writer)
        writer.write(data)
        return reader, writer


@asynccontextmanager
async def served(
    app: Any, limits: ConnectionLimits | None = SHORT, forwarded_allow_ips: str | None = None
) -> AsyncIterator[Served]:
    """Serve an application; without limits by uvicorn's own protocol."""
    refused: list[str] = []
    protocol = HttpToolsProtocol if limits is None else careful_protocol(limits, refused.append)
    config = uvicorn.Config(
        app,
        port=0,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        forwarded_allow_ips=forwarded_allow_ips,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    await eventually_async(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    here = Served(port, refused, server.server_state.connections)
    try:
        yield here
    finally:
        for writer in here.open:
            writer.close()
        server.should_exit = True
        await running


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def swallow(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def too_early(_request: Request) -> Response:
    return PlainTextResponse("no", 401)


HELLO = Starlette(
    routes=[
        Route("/", hello),
        Route("/swallow", swallow, methods=["POST"]),
        Route("/early", too_early, methods=["POST"]),
    ]
)


def status(answer: bytes) -> tuple[int, str]:
    """Return status and reason of a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert b"application/problem+json" in head
    assert f"x-request-id: {told['requestId']}".encode() in head
    assert f"HTTP/1.1 {told['status']} ".encode() in head
    return told["status"], told["reason"]


SLOW: dict[str, bytes] = {
    "nothing at all": b"",
    "half a request line": b"GET / HT",
    "a head without an end": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n",
    "a body without an end": b"POST /swallow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx",
    "chunks without an end": b"POST /swallow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
async def test_A9_a_slow_client_is_told_and_left(sent: bytes) -> None:
    async with served(HELLO) as careful, served(HELLO, None) as plain:
        (reader, _), (still, _) = await careful.connect(sent), await plain.connect(sent)
        assert status(await reader.read()) == (408, "RequestTimeout")
        assert careful.refused == ["RequestTimeout"]
        assert not still.at_eof()  # the counter-proof: uvicorn itself waits on


async def test_A9_a_byte_now_and_then_is_not_enough() -> None:
    async with served(HELLO) as careful:
        reader, writer = await careful.connect(SLOW["a head without an end"])

        async def drip() -> None:
            while not reader.at_eof():
                writer.write(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert status(await reader.readuntil(b"}")) == (408, "RequestTimeout")
        dripping.cancel()


HUGE: dict[str, tuple[bytes, int, str]] = {
    "many fields": (b"GET / HTTP/1.1\r\n" + b"X-A: 1\r\n" * 200 + b"\r\n", 431, "HeadersTooLarge"),
    "a long field": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n", 431, "HeadersTooLarge"),
    "a field without an end": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 2_000_000, 431, "HeadersTooLarge"),
    "a name without an end": (b"GET / HTTP/1.1\r\n" + b"a" * 2_000_000, 431, "HeadersTooLarge"),
    "a long path": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "TargetTooLong"),
    "a path without an end": (b"GET /" + b"a" * 2_000_000, 414, "TargetTooLong"),
    "no HTTP": (b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", 400, "MalformedRequest"),
    "two lengths": (
        b"POST /swallow HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        400,
        "MalformedRequest",
    ),
    "a length and chunks": (
        b"POST /swallow HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "MalformedRequest",
    ),
}


@pytest.mark.parametrize(("sent", "code", "reason"), HUGE.values(), ids=HUGE.keys())
async def test_A9_a_head_that_is_too_large_or_none_is_refused(sent: bytes, code: int, reason: str) -> None:
    async with served(HELLO, LONG) as careful:
        reader, _ = await careful.connect(sent)
        answer = await reader.readuntil(b"}")
        assert status(answer) == (code, reason)
        assert careful.refused == [reason]


async def test_A9_without_limits_a_huge_head_is_taken_in() -> None:
    async with served(HELLO, None) as plain:
        for name in ("many fields", "a long field"):
            reader, _ = await plain.connect(HUGE[name][0])
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_A9_one_connection_too_many_is_refused_at_once_and_only_as_long() -> None:
    async with served(HELLO, replace(LONG, connections=2)) as careful:
        (first, writer), (second, _) = await careful.connect(GET), await careful.connect(GET)
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
        assert (await second.readline()).startswith(b"HTTP/1.1 200")
        third, _ = await careful.connect()
        assert status(await third.read()) == (503, "TooManyConnections")
        writer.close()

        async def again() -> bytes:
            reader, _ = await careful.connect(GET)
            return await reader.readline()

        while not (answer := await again()).startswith(b"HTTP/1.1 200"):
            assert answer.startswith(b"HTTP/1.1 503")


def endless(produced: list[int], ended: asyncio.Event) -> Starlette:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                produced.append(1 << 16)
                yield b"x" * (1 << 16)
                await asyncio.sleep(0)  # to a client that is gone all is sent at once
        finally:
            ended.set()

    async def stream(_request: Request) -> Response:
        return StreamingResponse(chunks())

    return Starlette(routes=[Route("/", stream)])


async def test_A9_a_reader_who_does_not_read_holds_little_and_not_for_long() -> None:
    produced: list[int] = []
    ended = asyncio.Event()
    async with served(endless(produced, ended)) as careful:
        _, writer = await careful.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await ended.wait()
        assert careful.refused == ["SlowReader"]
        assert sum(produced) < 32 << 20  # what the kernel's buffers hold, and one chunk


async def test_A9_a_reader_who_reads_slowly_but_does_is_served(tmp_path: Path) -> None:
    produced: list[int] = []
    limits = replace(SHORT, slow_seconds=1)
    async with served(endless(produced, asyncio.Event()), limits) as careful:
        reader, _ = await careful.connect(GET)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while sum(produced) < 32 << 20 or loop.time() < began + 1.3 * limits.slow_seconds:
            await reader.readexactly(1 << 18)
            await asyncio.sleep(0.005)
        assert careful.refused == []


async def test_A9_what_comes_after_the_answer_has_an_end() -> None:
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    async with served(HELLO, LONG) as careful:
        reader, writer = await careful.connect(head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        assert sent < 64 << 20


async def test_A9_what_comes_after_the_body_is_no_header() -> None:
    async def headers(request: Request) -> Response:
        await request.body()
        return PlainTextResponse(",".join(request.headers))

    app = Starlette(routes=[Route("/", headers, methods=["POST"])])
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-API-Key: secret\r\n\r\n"
    async with served(app) as careful, served(app, None) as plain:
        (one, _), (other, _) = await careful.connect(sent), await plain.connect(sent)
        assert b"x-api-key" not in await one.readuntil(b"encoding")
        assert b"x-api-key" in await other.readuntil(b"x-api-key")  # uvicorn itself takes it for one


async def test_A9_connections_are_used_again_and_pipelined_requests_answered_in_order() -> None:
    async with served(HELLO, LONG) as careful:
        reader, writer = await careful.connect(GET + GET)
        for _ in range(2):
            assert await reader.readuntil(b"hello")
        body = b"POST /swallow HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        writer.write(body)
        assert (await reader.readuntil(b"300000")).startswith(b"HTTP/1.1 200")
        assert careful.refused == []


async def test_A9_a_stream_that_waits_for_events_is_not_a_slow_client(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, served(gateway.app) as careful:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
            request = f"GET {where}/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"
            stream, _ = await careful.connect(request.encode())
            assert await stream.readuntil(b"begun")
            slow, _ = await careful.connect(b"GET / HT")
            assert status(await slow.read()) == (408, "RequestTimeout")
            await client.delete(where)
            assert await stream.readuntil(b"Cancelled")


async def test_A9_a_body_that_stops_is_no_fault_of_the_gateway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_in(tmp_path) as gateway, served(gateway.app) as careful:
        key = await gateway.key("someone")
        head = f"POST /v1/tasks HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: 100\r\n\r\n{{"
        slow, _ = await careful.connect(head.encode())
        assert status(await slow.read()) == (408, "RequestTimeout")
        await eventually_async(lambda: 'reason="ClientDisconnected"} 1.0' in gateway.metrics_text)
        _, writer = await careful.connect(head.encode())
        writer.close()
        await eventually_async(lambda: 'reason="ClientDisconnected"} 2.0' in gateway.metrics_text)
    assert "Traceback" not in caplog.text


async def test_A9_who_follows_as_much_as_they_may_keeps_nobody_else_out(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_MAX_CONNECTIONS=6, CORRAL_SLOW_SECONDS=30) as gateway:
        greedy, other = await gateway.key("greedy"), await gateway.key("other")
        async with gateway.http(greedy) as client:
            uid = (await client.post("/v1/tasks", json=SLEEP)).json()["metadata"]["uid"]
        async with served(gateway.app, replace(LONG, connections=6)) as here:

            async def ask(key: str, path: str) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
                head = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
                reader, writer = await here.connect(head.encode())
                return await reader.readline(), reader, writer

            streams = [await ask(greedy, f"/v1/tasks/{uid}/events") for _ in range(3)]
            assert all(b" 200 " in line for line, _, _ in streams)
            line, reader, _ = await ask(greedy, f"/v1/tasks/{uid}/events")
            assert b" 429 " in line
            assert b"TooManyOpenRequests" in await reader.read()
            line, *_ = await ask(other, "/v1/tasks")
            assert b" 200 " in line
            streams[0][2].close()
            while b" 200 " not in (await ask(greedy, "/v1/whoami"))[0]:
                await asyncio.sleep(0.01)
            for _, _, writer in streams:
                writer.close()
            await eventually_async(lambda: len(gateway.services.entrance._open) == 0)


async def test_A9_calls_that_fail_or_are_given_up_are_open_no_more(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, grpc_of(gateway) as door:
        metadata = await door.metadata()
        async with door.stub() as stub:
            for deadline in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05) * 3:
                with contextlib.suppress(aio.AioRpcError):
                    await stub.ExecuteTask(request_for(SLEEP), metadata=metadata, timeout=deadline)
        await eventually_async(lambda: len(gateway.services.entrance._open) == 0)
