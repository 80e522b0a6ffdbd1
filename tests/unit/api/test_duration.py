"""Durations as Go writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import QuantityError, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("2h", 7200.0),
        ("1.5h", 5400.0),
        ("1h0m0s", 3600.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("7ns", 7e-9),
        ("1m1m", 120.0),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "0h0m0s", "30", "-1s", "1 s", "s", "1d", "1S", "1s\n", "1m" * 17]
)
def test_what_is_no_positive_duration_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="expected a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (90, "1m30s"),
        (0.5, "500ms"),
        (3600, "1h"),
        (0, "0s"),
        (90.5, "1m30.5s"),
        (1e-9, "1ns"),
        (0.0000105, "10.5us"),
    ],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(1, 10**15))
def test_a_written_duration_reads_back_to_the_nanosecond(nanoseconds: int) -> None:
    assert round(parse_duration(format_duration(nanoseconds / 1e9)) * 1e9) == round(nanoseconds / 1e9 * 1e9)
