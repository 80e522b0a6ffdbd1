"""A9: what one address can hold before anybody knows who is there: of HTTP, of gRPC, of the port for metrics.

Each attack is also run where nothing bounds it, and succeeds there.
"""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from prometheus_client import CollectorRegistry, Counter, start_http_server

from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral_gateway.serving.metrics_port import METRICS_CONNECTIONS, serving_metrics
from eventually import eventually, eventually_async
from integration.gateway.calling import grpc_of
from integration.gateway.running import gateway_in
from integration.gateway.test_connections import GET, HELLO, LONG, served, status

#: The loopback has 16 million addresses; 127.0.0.1 is the one that uvicorn takes for a proxy's unless it is told.
GREEDY, OTHER, PROXY = "127.0.0.2", "127.0.0.3", "127.0.0.1"
#: How HTTP/2 begins: its first words, and settings without any (RFC 9113, 3.4).
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
FOUR = replace(LONG, connections=4)


@dataclass
class Peer:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def is_open(self, seconds: float = 0.3) -> bool:
        """Whether nobody closes it for so long."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(4096):
                    pass
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        return False


@asynccontextmanager
async def connecting() -> AsyncIterator[Callable[..., Any]]:
    """Give what connects from an address to a port; all of it is closed at the end."""
    peers: list[Peer] = []

    async def connect(address: str, port: int, data: bytes = b"") -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))))
        peers[-1].writer.write(data)
        return peers[-1]

    try:
        yield connect
    finally:
        for peer in peers:
            peer.writer.close()


async def test_A9_one_address_does_not_hold_all_connections() -> None:
    async with served(HELLO, replace(FOUR, connections_of_address=3)) as here, connecting() as connect:
        held = [await connect(GREEDY, here.port, GET[:5]) for _ in range(3)]
        refused = await connect(GREEDY, here.port)
        assert status(await refused.reader.read()) == (429, "TooManyConnectionsOfAddress")
        assert here.refused == ["TooManyConnectionsOfAddress"]
        other = await connect(OTHER, here.port, GET)
        assert (await other.reader.readline()).startswith(b"HTTP/1.1 200")
        # What is refused takes nobody's place, and what ends gives its own back.
        held[0].writer.close()

        async def again() -> bytes:
            line: bytes = await (await connect(GREEDY, here.port, GET)).reader.readline()
            return line

        while not (answer := await again()).startswith(b"HTTP/1.1 200"):
            assert answer.startswith(b"HTTP/1.1 429")


async def test_A9_without_that_limit_one_address_keeps_everybody_out() -> None:
    async with served(HELLO, replace(FOUR, connections_of_address=4)) as here, connecting() as connect:
        for _ in range(4):
            await connect(GREEDY, here.port, GET[:5])
        await eventually_async(lambda: len(here.connections) == 4)
        other = await connect(OTHER, here.port, GET)
        assert status(await other.reader.read()) == (503, "TooManyConnections")


@pytest.mark.parametrize(
    ("proxies", "answered"),
    [(None, 4), ("127.0.0.1", 4), ("127.0.0.0/30", 4), ("*", 4), ("192.0.2.1", 1), ("", 1)],
)
async def test_A9_connections_of_a_trusted_proxy_are_not_counted(proxies: str | None, answered: int) -> None:
    limits = replace(FOUR, connections_of_address=1)
    async with served(HELLO, limits, forwarded_allow_ips=proxies) as here, connecting() as connect:
        peers = [await connect(PROXY, here.port, GET) for _ in range(4)]
        lines = sorted([(await peer.reader.readline()).split()[1] for peer in peers])
        assert lines == [b"200"] * answered + [b"429"] * (4 - answered)


async def test_A9_who_says_nothing_to_grpc_or_does_nothing_is_let_go(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_SLOW_SECONDS": 0.5, "CORRAL_KEEP_ALIVE_SECONDS": 1}
    plain = aio.server(options=[("grpc.so_reuseport", 0)])
    unbounded = plain.add_insecure_port("127.0.0.1:0")
    await plain.start()
    async with gateway_in(tmp_path, **settings) as gateway, grpc_of(gateway) as door, connecting() as connect:
        for sent in (b"", HTTP2[:10], HTTP2[:24], HTTP2):
            bounded, still = await connect(GREEDY, door.port, sent), await connect(GREEDY, unbounded, sent)
            assert not await bounded.is_open(60), sent
            assert await still.is_open(), sent  # the counter-proof
    await plain.stop(None)


async def test_A9_grpc_has_no_more_connections_than_it_may(tmp_path: Path) -> None:
    for most, held in ((4, 4), (2000, 40)):
        directory = tmp_path / str(most)
        directory.mkdir()
        async with (
            gateway_in(directory, CORRAL_MAX_CONNECTIONS=most) as gateway,
            grpc_of(gateway) as door,
            door.channel() as channel,
            connecting() as connect,
        ):
            stub = pb_grpc.AgentServiceStub(channel)
            await stub.HealthCheck(pb.HealthCheckRequest())
            peers = [await connect(GREEDY, door.port, HTTP2) for _ in range(held)]
            ends = [asyncio.create_task(peer.is_open(600)) for peer in peers]
            too_many = held - min(held, most - 1)
            while sum(end.done() for end in ends) < too_many:
                await asyncio.wait(ends, timeout=0.01)
            ended, there = await asyncio.wait(ends, timeout=0.3)
            assert (len(ended), len(there)) == (too_many, held - too_many)
            for end in there:
                end.cancel()
            # Who is connected is served.
            await stub.HealthCheck(pb.HealthCheckRequest())


async def metrics_from(connect: Callable[..., Any], address: str, port: int, *fields: str) -> bytes:
    head = "".join(f"{field}\r\n" for field in ("Host: a", "Connection: close", *fields))
    peer = await connect(address, port, f"GET /metrics HTTP/1.1\r\n{head}\r\n".encode())
    async with asyncio.timeout(30):
        answer: bytes = await peer.reader.read()
    return answer


async def test_M9_who_holds_the_port_for_metrics_costs_little_and_hides_nothing() -> None:
    registry = CollectorRegistry()
    Counter("seen", "What is seen.", registry=registry).inc()
    server, _ = start_http_server(0, "127.0.0.1", registry)
    async with connecting() as connect, serving_metrics(registry, "127.0.0.1", 0, 1) as port:
        before = threading.active_count()
        peers = [await connect(GREEDY, port) for _ in range(2 * METRICS_CONNECTIONS)]
        answer = await metrics_from(connect, OTHER, port)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"text/plain; version=" in answer
        assert b"seen_total 1.0" in answer
        assert threading.active_count() <= before + 1
        assert not any(await asyncio.gather(*(peer.is_open(60) for peer in peers)))
        # The counter-proof: a thread for each, for as long as they like.
        held = [await connect(GREEDY, server.server_port) for _ in range(20)]
        eventually(lambda: threading.active_count() >= before + 20)
        assert all(await asyncio.gather(*(peer.is_open(2) for peer in held)))
    await asyncio.to_thread(server.shutdown)
    server.server_close()


async def test_M9_metrics_come_as_their_reader_asks_for_them() -> None:
    registry = CollectorRegistry()
    Counter("seen", "What is seen.", registry=registry).inc()
    async with connecting() as connect, serving_metrics(registry, "127.0.0.1", 0, 1) as port:
        told = await metrics_from(connect, OTHER, port, "Accept: application/openmetrics-text; version=1.0.0")
        assert b"application/openmetrics-text" in told
        assert told.endswith(b"# EOF\n")
        told = await metrics_from(connect, OTHER, port, "Accept-Encoding: gzip")
        head, _, body = told.partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head.lower()
        assert b"seen_total 1.0" in gzip.decompress(body)
