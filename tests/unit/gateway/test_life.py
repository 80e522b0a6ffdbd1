"""B13: whether requests should be sent to a gateway, and who is let go at its end."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from corral_gateway.life import Life, Readiness, Stage, Waiters


@pytest.mark.parametrize(
    ("stage", "unwritable", "is_current", "why_not"),
    [
        (Stage.SERVING, None, None, None),
        (Stage.SERVING, None, lambda: True, None),
        (Stage.STARTING, None, None, "the gateway is starting"),
        (Stage.DRAINING, None, None, "the gateway is draining"),
        (Stage.ENDING, None, None, "the gateway is ending"),
        (Stage.SERVING, "the disk is full", None, "the audit cannot be written: the disk is full"),
        (Stage.SERVING, None, lambda: False, "the cluster does not tell what happens in it"),
    ],
)
def test_B13_a_gateway_is_ready_while_it_takes_work_in(
    stage: Stage, unwritable: str | None, is_current: Callable[[], bool] | None, why_not: str | None
) -> None:
    life = Life()
    life.stage = stage
    assert Readiness(life, lambda: unwritable, is_current).why_not == why_not


async def test_B13_who_waits_is_let_go_and_nobody_waits_after_that() -> None:
    waiters = Waiters()
    await waiters.nobody()

    async def wait() -> str:
        try:
            async with waiters.waiting():
                await asyncio.Event().wait()
        except TimeoutError:
            return "let go"
        return "waited"

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    leaving = asyncio.ensure_future(waiters.nobody())
    await asyncio.sleep(0)
    assert not leaving.done()
    waiters.let_go()
    assert await waiting == "let go"
    await leaving
    assert await wait() == "let go"


async def test_B13_who_follows_has_all_that_came_until_they_are_let_go() -> None:
    waiters, is_closed = Waiters(), False

    async def events() -> AsyncGenerator[int]:
        nonlocal is_closed
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            is_closed = True

    told: asyncio.Queue[int] = asyncio.Queue()

    async def follow() -> None:
        async for event in waiters.following(events()):
            told.put_nowait(event)

    following = asyncio.ensure_future(follow())
    assert [await told.get(), await told.get()] == [1, 2]
    leaving = asyncio.ensure_future(waiters.nobody())
    await asyncio.sleep(0)
    assert not leaving.done()
    waiters.let_go()
    await asyncio.gather(following, leaving)
    assert (told.empty(), is_closed) == (True, True)
