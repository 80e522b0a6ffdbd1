"""Who gets the next sandbox."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from corral_operator.decisions.queue import CallerShare, QueueEntry, order, positions
from unit.operator.factories import NOW


def _entry(name: str, caller: str = "ann", priority: int = 0, waits: float = 0) -> QueueEntry:
    return QueueEntry(f"uid-{name}", name, "main", caller, priority, NOW - timedelta(seconds=waits))


def _names(waiting: list[QueueEntry], shares: dict[str, CallerShare] | None = None) -> list[str]:
    return [entry.task_name for entry in order(waiting, shares)]


def test_B4_callers_take_turns_however_many_tasks_one_has() -> None:
    many = [_entry(f"a{number}", waits=100 - number) for number in range(4)]
    assert _names([*many, _entry("b0", "ben"), _entry("c0", "cid", waits=1)]) == [
        "a0",
        "c0",
        "b0",
        "a1",
        "a2",
        "a3",
    ]


def test_B4_the_higher_priority_goes_first_among_a_callers_own() -> None:
    waiting = [_entry("a0", waits=9), _entry("a1", priority=5, waits=1), _entry("b0", "ben", priority=-5)]
    assert _names(waiting) == ["a1", "b0", "a0"]


def test_B4_a_flood_of_the_highest_priority_holds_up_another_by_one() -> None:
    flood = [_entry(f"a{number}", priority=1000, waits=100) for number in range(1000)]
    assert _names([*flood, _entry("b0", "ben", priority=-1000)]).index("b0") == 1
    busy = {"ann": CallerShare(running=1)}
    assert _names([*flood, _entry("b0", "ben", priority=-1000)], busy)[0] == "b0"


def test_B4_whoever_has_less_goes_first_then_whoever_was_served_longest_ago() -> None:
    waiting = [_entry("a0", waits=9), _entry("b0", "ben"), _entry("c0", "cid"), _entry("d0", "dan")]
    shares = {
        "ann": CallerShare(running=1),
        "ben": CallerShare(last_served=NOW - timedelta(seconds=1)),
        "cid": CallerShare(last_served=NOW - timedelta(seconds=5)),
    }
    assert _names(waiting, shares) == ["d0", "c0", "b0", "a0"]


def test_within_a_caller_the_longest_wait_goes_first_then_the_name() -> None:
    assert _names([_entry("b"), _entry("a"), _entry("z", waits=1)]) == ["z", "a", "b"]


def test_positions_count_from_one() -> None:
    first, second = _entry("a0", waits=1), _entry("a1")
    assert positions((first, second)) == {("uid-a0", "main"): 1, ("uid-a1", "main"): 2}


ENTRIES = st.lists(
    st.builds(
        _entry,
        name=st.uuids().map(str),
        caller=st.sampled_from(["ann", "ben", "cid", ""]),
        priority=st.integers(-1, 1),
        waits=st.integers(0, 5),
    ),
    max_size=30,
)
SHARES = st.dictionaries(
    st.sampled_from(["ann", "ben", "cid", ""]), st.builds(CallerShare, running=st.integers(0, 5)), max_size=4
)


@given(waiting=ENTRIES, shares=SHARES, seed=st.randoms(use_true_random=False))
def test_B4_the_order_is_a_permutation_and_the_same_whatever_order_they_come_in(
    waiting: list[QueueEntry], shares: dict[str, CallerShare], seed: "object"
) -> None:
    ordered = order(waiting, shares)
    assert sorted(ordered, key=repr) == sorted(waiting, key=repr)
    shuffled = list(waiting)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order(shuffled, shares) == ordered
    for caller in ("ann", "ben", "cid", ""):
        own = [entry.priority for entry in ordered if entry.caller == caller]
        assert own == sorted(own, reverse=True)


@given(waiting=ENTRIES, shares=SHARES)
def test_B4_nobody_starves(waiting: list[QueueEntry], shares: dict[str, CallerShare]) -> None:
    """Before a caller's next turn no other, starting level, has more than one turn more, whatever the priorities."""
    ordered = order(waiting, shares)
    load = {caller: share.running for caller, share in shares.items()}
    left = {caller: sum(entry.caller == caller for entry in ordered) for caller in ("ann", "ben", "cid", "")}
    for entry in ordered:
        waiters = [caller for caller, count in left.items() if count]
        assert load.get(entry.caller, 0) == min(load.get(caller, 0) for caller in waiters)
        load[entry.caller] = load.get(entry.caller, 0) + 1
        left[entry.caller] -= 1
