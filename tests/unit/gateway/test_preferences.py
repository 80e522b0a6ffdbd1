"""M5: how long a request waits, by ``?wait`` or by RFC 7240."""

import pytest

from corral_gateway.problems import ProblemError
from corral_gateway.tasks.preferences import Waiting, waiting_of


@pytest.mark.parametrize(
    ("wait", "prefer", "expected"),
    [
        (None, [], Waiting()),
        ("30s", [], Waiting(30)),
        (None, ["respond-async"], Waiting(0, "respond-async")),
        (None, ["wait=10"], Waiting(10, "wait=10")),
        (None, ["respond-async, wait=10"], Waiting(10, "respond-async, wait=10")),
        (None, ["respond-async", "wait=10"], Waiting(10, "respond-async, wait=10")),
        (None, ['Respond-Async; foo="a,b" , WAIT = 10'], Waiting(10, "respond-async, wait=10")),
        (None, ['wait="10"'], Waiting(10, "wait=10")),
        (None, ["wait=10, wait=20"], Waiting(10, "wait=10")),  # RFC 7240, 2: the first one counts
        ("10s", ["wait=10"], Waiting(10, "wait=10")),
        # RFC 7240, 2: what is not known is left out.
        ("5s", ["handling=lenient, return=minimal", "", ",,;="], Waiting(5)),
        (None, ['x="wait=10"'], Waiting()),
    ],
)
def test_M5_what_is_preferred_is_heeded(wait: str | None, prefer: list[str], expected: Waiting) -> None:
    assert waiting_of(wait, prefer) == expected


@pytest.mark.parametrize(
    ("wait", "prefer", "reason"),
    [
        ("30s", ["wait=10"], "ConflictingPreferences"),
        ("30s", ["respond-async"], "ConflictingPreferences"),
        (None, ["wait=soon"], "InvalidRequest"),
        (None, ["wait=-1"], "InvalidRequest"),
        (None, ["wait=301"], "InvalidRequest"),
        (None, ["wait"], "InvalidRequest"),
        (None, ["wait=9999999999999999999"], "InvalidRequest"),
        ("301s", [], "InvalidRequest"),
    ],
)
def test_M5_what_cannot_be_heeded_is_refused(wait: str | None, prefer: list[str], reason: str) -> None:
    with pytest.raises(ProblemError) as refused:
        waiting_of(wait, prefer)
    assert refused.value.reason == reason


def test_A9_no_header_takes_long_to_read() -> None:
    # One of these took a quarter of a minute, during which the gateway did nothing else.
    for letter in "abcdefghijklmnopqrstuvwxyz":
        assert waiting_of(None, [letter * 999 + '"']) == Waiting()
        assert waiting_of(None, [f"{letter}={letter}" * 333 + '"']) == Waiting()
    assert waiting_of(None, ['x="' + 'a\\"' * 300 + '", wait=10']) == Waiting(10, "wait=10")
