"""Sliding windows of counts, against a plain model and at their edges."""

from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from corral_gateway.rates.rules import Rules, of_tool, routes_of
from corral_gateway.rates.windows import Exceeded, Limit, Standing, Windows


def limit(rate: str, key: str = "someone", kind: str = "caller") -> Limit:
    return Limit(kind, key, parse(rate), "you")  # type: ignore[arg-type]


def test_M6_a_window_lets_through_its_amount_and_says_when_it_turns() -> None:
    windows = Windows()
    told = [windows.hit([limit("3/minute")], 600.0) for _ in range(4)]
    assert told[:3] == [Standing(3, 2, 60), Standing(3, 1, 60), Standing(3, 0, 60)]
    assert told[3] == Exceeded(limit("3/minute"), Standing(3, 0, 61))


def test_M6_a_refused_request_counts_against_no_limit() -> None:
    windows = Windows()
    own, everybody = limit("1/minute"), limit("2/minute", "all", "global")
    assert isinstance(windows.hit([own, everybody], 0.0), Standing)
    for _ in range(10):
        assert isinstance(windows.hit([own, everybody], 0.0), Exceeded)
    other = limit("1/minute", "other")
    assert isinstance(windows.hit([other, everybody], 0.0), Standing)


@given(
    amount=st.integers(1, 20),
    seconds=st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=80),
)
def test_M6_never_more_than_twice_the_amount_in_any_window_and_the_named_time_is_true(
    amount: int, seconds: list[float]
) -> None:
    windows, now, let_through = Windows(), 1000.0, []
    one = limit(f"{amount}/minute")
    for pause in seconds:
        now += pause
        outcome = windows.hit([one], now)
        if isinstance(outcome, Standing):
            let_through.append(now)
            assert 0 <= outcome.remaining < amount
        else:
            # Who comes when they were told to is let through.
            now += outcome.standing.reset_seconds
            assert isinstance(windows.hit([one], now), Standing)
            let_through.append(now)
        # A counter of two windows is exact at their edges and estimates between them.
        assert sum(moment > now - 60 for moment in let_through) <= 2 * amount
        window = [moment for moment in let_through if int(moment // 60) == int(now // 60)]
        assert len(window) <= amount


def test_M6_a_hundred_thousand_callers_are_forgotten_and_cost_the_others_nothing() -> None:
    windows = Windows()
    for number in range(100_000):
        windows.hit([limit("600/minute", f"caller-{number}")], 0.0)
    assert len(windows) == 100_000
    windows.hit([limit("600/minute")], 60.0)
    windows.hit([limit("600/minute")], 120.0)
    assert len(windows) == 2  # one caller, in this window and in the one before
    windows.hit([limit("600/minute")], 600.0)
    assert len(windows) == 1


def test_M6_rules_put_the_narrowest_limit_first() -> None:
    rules = Rules(
        parse("600/minute"), parse("6000/minute"), parse("10/minute"), routes_of("POST /v1/tasks=5/minute")
    )
    found = [(one.kind, str(one.rate)) for one in rules.of_request("someone", "POST /v1/tasks")]
    assert found == [
        ("caller", "600 per 1 minute"),
        ("route", "5 per 1 minute"),
        ("route", "10 per 1 minute"),
        ("global", "6000 per 1 minute"),
    ]
    assert [one.kind for one in rules.of_request("someone", "GET /v1/tools")] == ["caller", "global"]
    assert of_tool("calculator", 2).key != of_tool("shell", 2).key
