"""Looking at many objects, each one after another."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from corral.cluster.port import Refused, Unavailable
from corral_operator.control.workers import Background, Workers
from unit.operator.virtual_time import loop, run


class _Looker:
    """Says when it looked, and does what it is told to."""

    def __init__(self, *results: float | Exception | Callable[[], Awaitable[float | None]] | None) -> None:
        self.results = list(results)
        self.looks: list[tuple[str, float]] = []
        self.now = 0
        self.most = 0

    async def __call__(self, key: str) -> float | None:
        self.looks.append((key, loop().time() - 1000))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            result = self.results.pop(0) if self.results else None
            if callable(result):
                return await result()
            if isinstance(result, Exception):
                raise result
            return None if result is None else loop().time() + result
        finally:
            self.now -= 1

    @property
    def times(self) -> list[float]:
        return [round(when, 3) for _, when in self.looks]


async def _slow() -> None:
    await asyncio.sleep(1)


def test_B13_one_object_is_never_looked_at_twice_at_once_and_others_are_meanwhile() -> None:
    async def main() -> None:
        look = _Looker(_slow, _slow, _slow)
        workers: Workers[str] = Workers(look, "thing")
        for key in ("a", "b", "a"):
            workers.kick(key)
        await asyncio.sleep(0.5)
        workers.kick("a")
        workers.kick("a")
        await asyncio.sleep(10)
        assert look.looks == [("a", 0), ("b", 0), ("a", 1)], "one more look for all kicks while one looks"
        assert look.most == 2

    run(main())


def test_a_look_says_when_it_wants_the_next_and_a_kick_comes_before_it() -> None:
    async def main() -> None:
        look = _Looker(5.0, 5.0, None)
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(2)
        workers.kick("a")
        await asyncio.sleep(60)
        assert look.times == [0, 2, 7], "the first alarm is gone with the kick"

    run(main())


def test_a_look_that_wants_no_other_is_the_last() -> None:
    async def main() -> None:
        look = _Looker(5.0, None)
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(60)
        assert look.times == [0, 5]

    run(main())


def test_a_forgotten_object_does_not_wake_up() -> None:
    async def main() -> None:
        look = _Looker(5.0)
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(1)
        workers.forget("a")
        workers.forget("never seen")
        await asyncio.sleep(60)
        assert look.times == [0]

    run(main())


def test_after_an_error_it_looks_again_later_and_later_but_never_later_than_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corral_operator.control.workers.random.uniform", lambda _low, high: high)

    async def main() -> None:
        errors = [ValueError("broken"), Unavailable("away"), *(RuntimeError("x") for _ in range(8))]
        look = _Looker(*errors)
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(100)
        pauses = [round(b - a, 3) for a, b in zip(look.times, look.times[1:], strict=False)]
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]

    run(main())


def test_after_a_good_look_the_pause_begins_anew_and_a_busy_server_is_given_the_time_it_asks_for() -> None:
    async def main() -> None:
        look = _Looker(Unavailable("busy", 7.0), None, Unavailable("busy", 3.0))
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(20)
        workers.kick("a")
        await asyncio.sleep(20)
        assert look.times == [0, 7, 20, 23]

    run(main())


def test_one_broken_object_does_not_keep_the_others_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        look = _Looker(KeyError("x"))
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("bad")
        workers.kick("good")
        await asyncio.sleep(1)
        assert [key for key, _ in look.looks] == ["bad", "good", "bad"]

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "looking at thing bad failed" in caplog.text


def test_B13_closing_stops_a_look_in_the_middle_and_kicks_begin_anew_afterwards() -> None:
    async def main() -> None:
        look = _Looker(_slow, 5.0, 5.0)
        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(0.5)
        workers.kick("a")
        await workers.close()
        await asyncio.sleep(20)
        assert (look.times, look.now) == ([0], 0)
        workers.kick("a")
        await asyncio.sleep(1)
        await workers.close()
        await asyncio.sleep(20)
        assert look.times == [0, 20.5], "the alarm went with the closing"

    run(main())


def test_B13_halted_nobody_goes_on_and_those_who_end_late_leave_their_successors_alone() -> None:
    async def main() -> None:
        done: list[str] = []

        async def look(_key: str) -> float | None:
            number = len(done)
            done.append("begun")
            try:
                await asyncio.sleep(1)
                done[number] = "acted"
            except asyncio.CancelledError:
                await asyncio.sleep(5)  # what an answer that is still read may take
                done[number] = "ended"
                raise
            return loop().time() + 100

        workers: Workers[str] = Workers(look, "thing")
        workers.kick("a")
        await asyncio.sleep(0.5)
        workers.kick("a")
        closing = asyncio.get_running_loop().create_task(workers.close())
        await asyncio.sleep(2)
        assert (done, closing.done()) == (["begun"], False), "a new term waits for the workers of the old one"
        await closing
        assert done == ["ended"]
        workers.kick("a")
        await asyncio.sleep(3)
        assert done == ["ended", "acted"]
        workers.kick("a")
        await asyncio.sleep(0.5)
        workers.halt()
        await asyncio.sleep(200)
        assert done == ["ended", "acted", "ended"], "neither goes it on, nor does its alarm ring"

    run(main())


def test_kicks_while_it_closes_are_not_heard() -> None:
    async def main() -> None:
        workers: Workers[str]

        async def stubborn(_key: str) -> None:
            try:
                await asyncio.sleep(1)
            finally:
                workers.kick("b")

        workers = Workers(stubborn, "thing")
        workers.kick("a")
        await asyncio.sleep(0.5)
        await workers.close()
        assert not workers._running

    run(main())


def test_background_work_is_tried_again_while_the_server_is_away_and_given_up_when_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corral_operator.control.workers.random.uniform", lambda _low, high: high)

    async def main() -> None:
        background, calls = Background(), []

        def work(*errors: Exception) -> Callable[[], Awaitable[None]]:
            left = list(errors)

            async def once() -> None:
                calls.append(round(loop().time() - 1000, 3))
                if left:
                    raise left.pop(0)

            return once

        background.run(work(Unavailable("away"), Unavailable("busy", 5.0)), "delete x")
        await asyncio.sleep(60)
        assert calls == [0, 0.1, 5.1]
        calls.clear()
        background.run(
            work(Refused(403, "Forbidden", "no", {}), Refused(403, "Forbidden", "no", {})), "delete x"
        )
        await asyncio.sleep(60)
        assert calls == [60]
        await background.close()

    run(main())


def test_background_work_gets_a_moment_at_the_end_and_not_more() -> None:
    async def main() -> None:
        background, done = Background(), []

        def ends_after(seconds: float) -> Callable[[], Awaitable[None]]:
            async def work() -> None:
                await asyncio.sleep(seconds)
                done.append(seconds)

            return work

        background.run(ends_after(1), "short")
        background.run(ends_after(50), "long")
        begun = loop().time()
        await background.close()
        assert (done, loop().time() - begun) == ([1], 2)

    run(main())


def test_background_work_without_an_end_outlasts_any_outage() -> None:
    async def main() -> None:
        background, calls = Background(), 0

        async def work() -> None:
            nonlocal calls
            calls += 1
            if loop().time() - 1000 < 3600:
                raise Unavailable("away")

        task = background.run(work, "delete x", attempts=None)
        await asyncio.sleep(3700)
        assert task.done()
        assert 360 < calls < 800, "an hour at ten seconds each, half of it by chance"

    run(main())


def test_background_work_that_is_given_up_ends_without_another_pause() -> None:
    async def main() -> None:
        background = Background()

        async def work() -> None:
            raise Unavailable("away")

        await background.run(work, "write an event", attempts=1)
        assert loop().time() == 1000

    run(main())
