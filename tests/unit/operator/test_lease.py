"""One active operator at a time, on a clock that the test holds."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from corral.cluster.port import AlreadyExists, Cluster, Conflict, NotFound, ObjectKey, Resource, Unavailable
from corral_operator.lease import Leadership
from corral_operator.settings import Settings
from unit.operator.factories import NOW
from unit.operator.virtual_time import VirtualLoop, loop, run

if TYPE_CHECKING:
    from corral_operator.clock import Clock

Json = dict[str, Any]


class _Leases:
    """An API server with one Lease, as several operators see it."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        #: Called before each request, with the verb.
        self.before: Callable[[str], Awaitable[None]] | None = None

    async def _begin(self, verb: str) -> None:
        if self.before is not None:
            await self.before(verb)

    async def get(self, _resource: Resource, _namespace: str, _name: str) -> Json:
        await self._begin("get")
        if self.lease is None:
            raise NotFound(404, "NotFound", "none", {})
        return {**self.lease, "spec": dict(self.lease["spec"])}

    async def create(self, _resource: Resource, _namespace: str, body: Mapping[str, Any]) -> Json:
        await self._begin("create")
        if self.lease is not None:
            raise AlreadyExists(409, "AlreadyExists", "there", {})
        return self._store(dict(body))

    async def replace(self, _resource: Resource, _namespace: str, body: Mapping[str, Any]) -> Json:
        await self._begin("replace")
        if self.lease is None or body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(409, "Conflict", "changed", {})
        return self._store(dict(body))

    def _store(self, body: Json) -> Json:
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.lease

    async def delete(self, _resource: Resource, _key: ObjectKey) -> None:
        raise AssertionError

    def pages(self) -> AsyncIterator[None]:
        raise AssertionError

    @property
    def spec(self) -> Json:
        assert self.lease is not None
        spec: Json = self.lease["spec"]
        return spec


class _Operator:
    """One replica."""

    def __init__(self, leases: _Leases, name: str, **settings: Any) -> None:
        self.changes: list[tuple[bool, float]] = []
        clock = cast("Clock", SimpleNamespace(now=lambda: NOW + timedelta(seconds=loop().time() - 1000)))
        given = Settings(identity=name, lease_seconds=8, **settings)
        self.leadership = Leadership(cast("Cluster", leases), given, clock, self._changed)
        self.task = asyncio.get_running_loop().create_task(self.leadership.run())

    def _changed(self, active: bool) -> None:  # noqa: FBT001 - as Leadership calls it
        self.changes.append((active, round(loop().time() - 1000, 3)))

    def is_active(self) -> bool:
        return self.leadership.active

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Lease measures is the event loop's time."""

    def monotonic() -> float:
        return loop().time()

    monkeypatch.setattr("corral_operator.lease.time", SimpleNamespace(monotonic=monotonic))


def test_B13_the_first_takes_the_lease_and_keeps_it() -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(60)
        assert one.changes == [(True, 0)]
        assert {**leases.spec, "renewTime": None} == {
            "holderIdentity": "one",
            "leaseTransitions": 1,
            "acquireTime": "2026-01-01T12:00:00.000000Z",
            "renewTime": None,
            "leaseDurationSeconds": 8,
        }
        renewed = datetime.fromisoformat(leases.spec["renewTime"])
        assert NOW + timedelta(seconds=57) < renewed
        await one.stop()

    run(main())


def test_B13_a_standby_waits_while_the_lease_is_renewed_and_takes_it_when_it_is_given_back() -> None:
    async def main() -> None:
        leases = _Leases()
        one, two = _Operator(leases, "one"), _Operator(leases, "two")
        await asyncio.sleep(60)
        assert (one.is_active(), two.is_active()) == (True, False)
        await one.stop()
        assert (one.is_active(), leases.spec["holderIdentity"]) == (False, "")
        await asyncio.sleep(2.1)
        assert two.is_active(), "a stop that says so costs a quarter of a term"
        assert leases.spec["leaseTransitions"] == 2
        await two.stop()

    run(main())


def test_B13_a_holder_that_dies_is_followed_within_its_term_and_one_look() -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(0.5)
        two = _Operator(leases, "two")
        await asyncio.sleep(4.2)

        async def dead(_verb: str) -> None:
            leases.before = None
            raise Unavailable("it died and gave nothing back")

        leases.before = dead
        await one.stop()
        died = loop().time()
        while not two.is_active():
            await asyncio.sleep(0.1)
        assert 6 < loop().time() - died < 8 + 2.2
        await two.stop()

    run(main())


def test_B13_a_standby_says_once_whom_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(1)
        two = _Operator(leases, "two")
        await asyncio.sleep(60)
        await one.stop()
        await two.stop()

    with caplog.at_level(logging.INFO, "corral_operator.lease"):
        run(main())
    assert caplog.messages.count("the Lease is held by one") == 1
    assert "the Lease is held by two" not in caplog.messages


def test_B13_two_that_have_one_name_say_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main(*names: str) -> None:
        leases = _Leases()
        operators = [_Operator(leases, name) for name in names]
        await asyncio.sleep(5)

        async def unanswered(verb: str) -> None:
            if verb == "replace":
                leases.before = None
                assert leases.lease is not None
                leases._store(leases.lease)
                raise Unavailable("it was written, and the answer is lost")

        leases.before = unanswered
        await asyncio.sleep(20)
        for one in operators:
            await one.stop()

    run(main("one"))
    assert "holds the Lease as" not in caplog.text
    run(main("one", "one"))
    assert "another operator holds the Lease as one too" in caplog.text


def test_B13_two_that_start_together_do_not_both_win() -> None:
    async def main() -> None:
        leases = _Leases()

        async def slow(_verb: str) -> None:
            await asyncio.sleep(0.1)

        leases.before = slow
        operators = [_Operator(leases, f"o{n}") for n in range(3)]
        await asyncio.sleep(20)
        assert sum(one.is_active() for one in operators) == 1
        assert sum(len(one.changes) for one in operators) == 1
        for one in operators:
            await one.stop()

    run(main())


def test_B13_an_operator_cut_off_from_the_server_stops_before_another_may_begin() -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(5)
        last = loop().time() - (loop().time() - 1000) % 2

        async def hangs(_verb: str) -> None:
            await asyncio.sleep(3600)

        leases.before = hangs
        await asyncio.sleep(last + 8 - loop().time())
        assert not one.is_active()
        leases.before = None
        await asyncio.sleep(20)
        assert one.is_active(), "it comes back when the server does"
        await one.stop()

    run(main())


@pytest.mark.parametrize("error_after", [0.5, 1.9, 3.9])
def test_B13_a_slow_error_and_then_silence_do_not_stretch_the_term(error_after: float) -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(0.5)
        calls = 0

        async def slow(_verb: str) -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(error_after if calls == 1 else 3600)
            raise Unavailable("slow")

        leases.before = slow
        await asyncio.sleep(7.5)
        assert not one.is_active(), f"another one may be active since {loop().time() - 1008:g} s"
        await one.stop()

    run(main())


def test_B13_a_process_that_stood_still_does_not_act_on_when_it_wakes_up() -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(5)
        entered = asyncio.Event()

        async def slow(_verb: str) -> None:
            entered.set()
            await asyncio.sleep(1)

        leases.before = slow
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualLoop)
        running.jump(60)
        await entered.wait()
        assert not one.is_active(), "it asks for the Lease, and meanwhile is not the one that has it"
        await one.stop()

    run(main())


def test_B13_a_lease_that_somebody_else_took_meanwhile_is_lost() -> None:
    async def main() -> None:
        leases = _Leases()
        one = _Operator(leases, "one")
        await asyncio.sleep(5)
        assert leases.lease is not None
        leases._store({**leases.lease, "spec": {**leases.spec, "holderIdentity": "two"}})
        await asyncio.sleep(2.1)
        assert not one.is_active()
        await asyncio.sleep(9)
        assert one.is_active(), "nobody renews it"
        await one.stop()

    run(main())


def test_B13_an_expired_lease_of_another_is_measured_on_ones_own_clock() -> None:
    async def main() -> None:
        leases = _Leases()
        spec = {
            "holderIdentity": "old",
            "leaseDurationSeconds": 20,
            "renewTime": "2001-01-01T00:00:00.000000Z",
        }
        leases._store({"metadata": {"name": "corral-operator"}, "spec": spec})
        one = _Operator(leases, "one")
        await asyncio.sleep(19)
        assert not one.is_active(), (
            "the holder's clock may be wrong; its own term counts from when it was first seen"
        )
        await asyncio.sleep(4)
        assert one.is_active()
        await one.stop()

    run(main())


def test_without_leader_election_it_is_active_and_asks_nobody() -> None:
    async def main() -> None:
        one = _Operator(_Leases(), "one", leader_election=False)
        await asyncio.sleep(60)
        assert (one.changes, one.leadership._cluster.lease) == ([(True, 0)], None)  # type: ignore[attr-defined]
        await one.stop()

    run(main())
