"""B4: whose turn it is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from corral_gateway.tasks.fair_queue import FairQueue, NoPlaceError
from corral_gateway.tasks.throughput import Throughput


def drain(queue: FairQueue[tuple[str, int]], most: int = 10_000) -> list[tuple[str, int]]:
    """Return the order in which all are served, each ending before the next begins."""
    order: list[tuple[str, int]] = []
    now = queue.serve()
    while now and len(order) < most:
        order += now
        for caller, _ in now:
            queue.leave(caller)
        now = queue.serve()
    return order


def test_B4_a_flood_waits_behind_itself() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(1, 1000, 1000)
    for number in range(100):
        queue.join("flooder", ("flooder", number))
    for number in range(3):
        queue.join("other", ("other", number))
    order = drain(queue)
    assert [caller for caller, _ in order[:8]] == ["flooder", "other"] * 3 + ["flooder"] * 2
    assert [number for caller, number in order if caller == "flooder"] == list(range(100))
    assert queue.callers == 0


def test_B4_who_holds_many_places_waits_for_who_holds_few() -> None:
    queue: FairQueue[str] = FairQueue(4, 100, 100)
    for number in range(8):
        queue.join("flooder", f"flooder {number}")
    assert len(queue.serve()) == 4
    for number in range(4):
        queue.join("other", f"other {number}")
    assert queue.serve() == []
    for _ in range(2):
        queue.leave("flooder")
    assert queue.serve() == ["other 0", "other 1"]  # two each
    queue.leave("other")
    assert queue.serve() == ["other 2"]


def test_B4_a_callers_own_priorities_order_their_own_tasks_alone() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(1, 100, 100)
    queue.join("one", ("one", 0))
    queue.join("one", ("one", 5), priority=5)
    queue.join("two", ("two", -9), priority=-9)
    queue.join("one", ("one", 1000), priority=1000)
    assert drain(queue) == [("one", 1000), ("two", -9), ("one", 5), ("one", 0)]


def test_B4_a_flooder_fills_only_their_own_share_of_the_line() -> None:
    queue: FairQueue[int] = FairQueue(2, 8, 3)
    for number in range(2):
        queue.join("flooder", number)
        queue.serve()
    for number in range(3):
        queue.join("flooder", number)
    with pytest.raises(NoPlaceError) as refused:
        queue.join("flooder", 9)
    assert (refused.value.own, refused.value.waiting) == (True, 3)
    queue.join("other", 0)
    for caller in ("b", "c"):
        for number in range(2):
            queue.join(caller, number)
    with pytest.raises(NoPlaceError) as full:
        queue.join("newcomer", 0)
    assert (full.value.own, full.value.waiting) == (False, 8)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3)), max_size=60), st.integers(1, 5))
def test_B4_everyone_is_served_once_and_evenly(arrivals: list[tuple[str, int]], places: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(places, 1000, 1000)
    for number, (caller, priority) in enumerate(arrivals):
        queue.join(caller, (caller, number), priority)
    order = drain(queue)
    assert sorted(number for _, number in order) == list(range(len(arrivals)))
    left = Counter(caller for caller, _ in arrivals)
    served: Counter[str] = Counter()
    for caller, _ in order:
        served[caller] += 1
        left[caller] -= 1
        # While two both wait, neither is ahead by more than the places of one round.
        waiting = [served[one] for one in left if left[one] > 0]
        if waiting:
            assert max(waiting) - min(waiting) <= places


class Line(RuleBasedStateMachine):
    """Whatever happens in whatever order, places and waiting are what they are said to be."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[tuple[str, int]] = FairQueue(3, 6, 4)
        self.waiting: list[tuple[str, int]] = []
        self.holding: list[tuple[str, int]] = []
        self.number = 0

    def _serve(self) -> None:
        for item in self.queue.serve():
            self.waiting.remove(item)
            self.holding.append(item)

    @rule(caller=st.sampled_from("abcd"), priority=st.integers(-2, 2))
    def join(self, caller: str, priority: int) -> None:
        self.number += 1
        item = (caller, self.number)
        full = len(self.holding) + len(self.waiting) >= 9
        own = len(self.holding) == 3 and sum(one[0] == caller for one in self.waiting) >= 4
        if full or own:
            with pytest.raises(NoPlaceError) as refused:
                self.queue.join(caller, item, priority)
            assert refused.value.own == (not full)
        else:
            self.queue.join(caller, item, priority)
            self.waiting.append(item)
        self._serve()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.holding))
        self.holding.remove(item)
        self.queue.leave(item[0])
        self._serve()

    @precondition(lambda self: self.waiting or self.holding)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.waiting + self.holding))
        assert self.queue.give_up(item[0], item) is (item in self.waiting)
        if item in self.waiting:
            self.waiting.remove(item)
        self._serve()

    @invariant()
    def counts_are_true(self) -> None:
        assert (self.queue.running, self.queue.waiting) == (len(self.holding), len(self.waiting))
        assert len(self.holding) == 3 or not self.waiting
        assert self.queue.callers == len({one[0] for one in self.holding + self.waiting})


TestLine = Line.TestCase


def test_B3_when_to_come_again_follows_from_how_fast_places_become_free() -> None:
    throughput = Throughput()
    assert throughput.retry_after_seconds(1000, 0.0) == 5  # nothing is known yet
    for number in range(100):
        throughput.ended(number / 10)  # ten a second
    assert throughput.retry_after_seconds(0, 10.0) == 1
    assert throughput.retry_after_seconds(1000, 10.0) == 11
    slow = Throughput()
    slow.ended(0.0)
    assert slow.retry_after_seconds(10, 50.0) == 100
    assert slow.retry_after_seconds(100_000, 50.0) == 300
    assert slow.retry_after_seconds(10, 1000.0) == 5  # too long ago
