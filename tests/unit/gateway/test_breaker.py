"""S4: a circuit breaker against the clock, at its edges and used wrongly."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from corral.api import AgentTask, Reason
from corral_gateway.breakers.breaker import Breaker, BreakerRules, State
from corral_gateway.breakers.breakers import Breakers

RULES = BreakerRules(failures=3, window=5, open_seconds=30, probes=1, probe_seconds=100)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed("x", now)
    return breaker


def test_S4_it_opens_after_failures_and_tries_again_with_one() -> None:
    breaker = Breaker(RULES)
    for _ in range(2):
        breaker.failed("x", 0.0)
    assert breaker.admit("x", 0.0) is None
    breaker.failed("x", 0.0)
    assert breaker.state(0.0) is State.OPEN
    assert breaker.admit("x", 10.0) == 20.0
    assert breaker.state(30.0) is State.HALF_OPEN
    assert breaker.admit("probe", 30.0) is None
    assert breaker.admit("other", 30.0) == 100.0
    breaker.succeeded("probe", 31.0)
    assert breaker.state(31.0) is State.CLOSED
    assert breaker.admit("other", 31.0) is None


def test_S4_a_probe_that_fails_opens_it_again() -> None:
    breaker = opened()
    assert breaker.admit("probe", 30.0) is None
    breaker.failed("probe", 40.0)
    assert breaker.admit("other", 41.0) == 29.0


def test_S4_a_probe_that_never_comes_back_is_given_up() -> None:
    breaker = opened()
    assert breaker.admit("lost", 30.0) is None
    assert breaker.admit("next", 129.0) == 1.0
    assert breaker.admit("next", 130.0) is None
    breaker.failed("lost", 131.0)  # it comes back after all, and is nobody's probe any more
    assert breaker.state(131.0) is State.HALF_OPEN
    breaker.succeeded("next", 132.0)
    assert breaker.state(132.0) is State.CLOSED


def test_S4_a_probe_that_never_began_lets_another_try() -> None:
    breaker = opened()
    assert breaker.admit("probe", 30.0) is None
    breaker.withdrawn("probe")
    breaker.withdrawn("nobody")
    assert breaker.admit("other", 30.0) is None


def test_S4_what_began_before_it_opened_neither_closes_nor_opens_it() -> None:
    breaker = opened()
    breaker.succeeded("old", 1.0)
    breaker.failed("old", 2.0)
    assert breaker.admit("x", 3.0) == 27.0
    breaker.succeeded("old", 30.0)
    breaker.failed("old", 30.0)
    assert breaker.state(30.0) is State.HALF_OPEN


def test_S4_failures_among_successes_are_forgotten_in_time() -> None:
    breaker = Breaker(RULES)
    for _ in range(50):
        breaker.failed("x", 0.0)
        breaker.succeeded("x", 0.0)
        breaker.succeeded("x", 0.0)
    assert breaker.state(0.0) is State.CLOSED


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "succeeded", "failed", "withdrawn"]),
            st.sampled_from("abc"),
            st.floats(0, 50, allow_nan=False),
        ),
        max_size=100,
    )
)
def test_S4_however_it_is_used_it_stays_small_and_lets_somebody_try_in_the_end(
    calls: list[tuple[str, str, float]],
) -> None:
    breaker, now = Breaker(RULES), 0.0
    for call, who, pause in calls:
        now += pause
        if call == "admit":
            wait = breaker.admit(who, now)
            assert wait is None or 0 < wait <= RULES.probe_seconds
        elif call == "withdrawn":
            breaker.withdrawn(who)
        else:
            getattr(breaker, call)(who, now)
        assert len(breaker._probes) <= RULES.probes
        assert len(breaker._outcomes) <= RULES.window
    assert breaker.admit("last", now + RULES.open_seconds + RULES.probe_seconds) is None


def ended(tool: str, reason: Reason) -> AgentTask:
    return AgentTask.model_validate(
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "AgentTask",
            "metadata": {"name": "t", "uid": "u"},
            "spec": {"tool": tool},
            "status": {"phase": "Failed", "reason": reason.value},
        }
    )


def test_S4_of_many_tools_few_are_remembered() -> None:
    breakers = Breakers(RULES, lambda: 0.0)
    for number in range(3000):
        breakers.ended(ended(f"tool-{number}", Reason.IMAGE_PULL_FAILED), "someone", 1.0)
    assert len(breakers._tools) == 1000
    assert sum(count for (scope, _), count in breakers.states().items() if scope == "tool") == 1000
    assert (
        breakers.states()["executor", State.CLOSED] == 1
    )  # an image that is not there is a tool's own matter
    assert sys.getsizeof(breakers._failing) < 1000


def test_S4_one_tool_that_fails_stops_itself_and_two_stop_all() -> None:
    breakers = Breakers(RULES, lambda: 0.0)
    for _ in range(10):
        breakers.ended(ended("one", Reason.SANDBOX_FAILED), "someone", 1.0)
    assert breakers.states()["tool", State.OPEN] == 1
    assert breakers.states()["executor", State.CLOSED] == 1
    for _ in range(3):
        breakers.ended(ended("two", Reason.NODE_LOST), "someone", 1.0)
    assert breakers.states()["executor", State.OPEN] == 1
