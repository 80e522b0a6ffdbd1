"""W5: a key set that is fetched: kept for a while, renewed, rotated, and what holds while its endpoint is down."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from corral_gateway.identity.jwt.issuer import JwtIssuer
from corral_gateway.identity.jwt.key_sources import FetchError, KeySet
from corral_gateway.problems import ProblemError
from eventually import eventually_async
from unit.gateway.tokens import ISSUER, RSA, jwks

NEXT = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class World:
    """An endpoint and a clock."""

    def __init__(self) -> None:
        values = {"name": "corp", "issuer": ISSUER, "audiences": "corral", "algorithms": "RS256"}
        more = {"jwks_url": "https://login.example.com/keys", "stale_seconds": 1000}
        self.now = 0.0
        self.fetched = 0
        self.answer = jwks(("one", RSA, {}))
        self.down = False
        self.gate: asyncio.Event | None = None
        self.set = KeySet(JwtIssuer.model_validate(values | more), self.fetch, lambda: self.now)

    async def fetch(self) -> bytes:
        self.fetched += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise FetchError("down")
        return self.answer

    async def has(self, kid: str | None) -> bool:
        return bool(await self.set.keys(kid))


async def test_W5_a_set_is_fetched_once_for_many_and_again_when_it_is_old() -> None:
    world = World()
    world.gate = asyncio.Event()
    many = asyncio.gather(*(world.has("one") for _ in range(20)))
    await asyncio.sleep(0)
    world.gate.set()
    assert all(await many)
    assert world.fetched == 1
    world.now = 299
    assert await world.has("one")
    assert world.fetched == 1
    world.now, world.answer = 300, jwks(("two", NEXT, {}))
    assert not await world.has("one"), "a key that the issuer took back"
    assert await world.has("two")
    assert world.fetched == 2


async def test_W5_an_unknown_key_makes_the_set_be_fetched_but_not_for_each_token() -> None:
    world = World()
    assert await world.has("one")
    world.answer = jwks(("one", RSA, {}), ("two", NEXT, {}))
    world.now = 10
    assert await world.has("two")
    for number in range(100):
        world.now = 10 + number / 10
        assert not await world.has(f"unknown-{number}")
    assert world.fetched == 2
    world.now = 20
    assert not await world.has("unknown")
    assert world.fetched == 3
    assert await world.has(None)


async def test_W5_the_last_set_serves_for_a_bounded_time_while_the_endpoint_is_down() -> None:
    world = World()
    assert await world.has("one")
    world.down = True
    for world.now in (300, 305, 311, 322, 1299):
        assert await world.has("one")
    await eventually_async(lambda: world.set._background is None or world.set._background.done())
    world.now = 1301
    with pytest.raises(ProblemError) as refused:
        await world.has("one")
    assert (refused.value.status, refused.value.reason) == (503, "IdentityUnavailable")
    world.down, world.now = False, 1320
    await _settled(world)
    assert await world.has("one")


async def test_W5_nobody_waits_for_an_endpoint_that_did_not_answer_the_last_time() -> None:
    world = World()
    assert await world.has("one")
    world.down, world.now = True, 300
    assert await world.has("one")
    world.gate, world.now = asyncio.Event(), 311
    assert await world.has("one"), "the endpoint hangs, and this does not"
    world.gate.set()
    await world.set.close()


async def test_W5_without_any_set_nothing_is_believed_and_the_endpoint_is_left_in_peace() -> None:
    for answer in (None, b"<html>", b'{"keys": []}'):
        world = World()
        world.down, world.answer = answer is None, answer or b""
        for _ in range(20):
            with pytest.raises(ProblemError):
                await world.has("one")
        assert world.fetched == 1


async def test_W5_a_caller_who_goes_while_the_set_is_fetched_takes_nothing_from_others() -> None:
    world = World()
    world.gate = asyncio.Event()
    first = asyncio.ensure_future(world.has("one"))
    await eventually_async(lambda: world.fetched == 1)
    second = asyncio.ensure_future(world.has("one"))
    await asyncio.sleep(0)
    first.cancel()
    await eventually_async(lambda: world.fetched == 2)
    world.gate.set()
    assert await second


async def _settled(world: World) -> None:
    """Have the set renewed, whoever does it."""
    try:
        await world.has("one")
    except ProblemError:
        await eventually_async(lambda: world.set._background is not None and world.set._background.done())
