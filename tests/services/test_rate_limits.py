"""M6: limits that gateways share through a real store, and what holds while it is down."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_gateway.metrics import Metrics
from corral_gateway.problems import ProblemError
from corral_gateway.rate_limits import RateLimits
from corral_gateway.settings import Settings
from eventually import eventually_async
from integration.gateway.serving import corral, serving
from services import servers

ROUTE = "GET /v1/tools"


def limits(url: str, clock: "Clock | None" = None) -> tuple[RateLimits, Metrics]:
    settings = Settings(_env_file=None, CORRAL_RATE_LIMIT_URL=url, CORRAL_RATE_LIMIT_CALLER="5/hour")
    metrics = Metrics()
    return (RateLimits(settings, metrics) if clock is None else RateLimits(settings, metrics, clock)), metrics


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def store_up(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("corral_gateway_rate_limit_store_up") or 0


async def let_through(one: RateLimits, caller: str, most: int = 20) -> int:
    """Return how many requests in a row are let through."""
    for number in range(most):
        try:
            await one.request(caller, ROUTE)
        except ProblemError:
            return number
    return most


async def test_M6_a_store_that_goes_leaves_each_gateway_its_own_count_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "corral_gateway.rate_limits")
    clock, port = Clock(), servers.free_port()
    for directory in ("first", "second"):
        (tmp_path / directory).mkdir()
    with servers.redis(tmp_path / "first", port) as url:
        (one, metrics), (other, _) = limits(url, clock), limits(url)
        standing = await one.request("someone", ROUTE)
        assert standing is not None
        assert (standing.limit, standing.remaining) == (5, 4)
        assert 0 < standing.reset_seconds <= 3600
        assert await let_through(other, "someone") == 4
        assert await let_through(one, "someone") == 0
    # It is gone: the same limits, from nothing, by each process for itself; told once, however many ask.
    assert await let_through(one, "someone") == 5
    assert store_up(metrics) == 0
    clock.now += 10  # asked again, in vain
    assert await let_through(one, "another") == 5
    assert len(caplog.records) == 1, caplog.text
    failures = metrics.registry.get_sample_value("corral_gateway_rate_limit_store_failures_total")
    assert failures == 2  # of eleven requests two asked it
    with servers.redis(tmp_path / "second", port):
        assert await let_through(one, "someone") == 0  # not asked yet
        clock.now += 10
        assert await let_through(one, "someone") == 5  # it starts empty
        assert store_up(metrics) == 1
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "the store of rate limits is down",
        "the store of rate limits answers again",
    ]
    one.close()
    other.close()


async def test_M6_a_store_that_hangs_is_as_one_that_is_gone(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.read()
        writer.close()
        connections.remove(writer)

    connections: list[asyncio.StreamWriter] = []

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        one, metrics = limits(f"valkey://127.0.0.1:{port}/0")
        assert await let_through(one, "someone") == 5
        assert store_up(metrics) == 0
        one.close()
        await eventually_async(lambda: not connections)


def test_M6_two_gateways_share_one_limit(tmp_path: Path, redis_server: str) -> None:
    settings: dict[str, Any] = {"CORRAL_RATE_LIMIT_URL": redis_server, "CORRAL_RATE_LIMIT_CALLER": "6/hour"}
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    with serving(places[0], **settings) as (one, *_), serving(places[1], **settings) as (two, *_):
        keys = [corral(place, "keys", "create", "shared").stdout.strip() for place in places]
        answers = [
            httpx.get(f"{url}/v1/tools", headers={"X-API-Key": key})
            for _ in range(4)
            for url, key in zip((one, two), keys, strict=True)
        ]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == [*"5432100", "0"]


def test_M6_two_gateways_without_a_store_each_have_their_own(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"CORRAL_RATE_LIMIT_CALLER": "1/hour"}
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    with serving(places[0], **settings) as (one, *_), serving(places[1], **settings) as (two, *_):
        for url, place in zip((one, two), places, strict=True):
            key = {"X-API-Key": corral(place, "keys", "create", "shared").stdout.strip()}
            assert [httpx.get(f"{url}/v1/tools", headers=key).status_code for _ in range(2)] == [200, 429]
