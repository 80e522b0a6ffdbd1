"""A9: how deep and how full a body is, before it is parsed."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral_gateway.json_shape import excess_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)
    return 0


@given(JSON, st.integers(1, 6))
def test_A9_depth_is_what_a_parser_would_find(value: Any, most: int) -> None:
    for ensure_ascii in (True, False):
        data = json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
        assert (excess_of(data, most_levels=most) is not None) is (levels(value) > most)


def test_A9_brackets_in_strings_are_no_levels() -> None:
    assert excess_of(json.dumps({"code": "[" * 100_000 + '\\"{'}).encode()) is None
    assert excess_of(b"[" * 201 + b"]" * 201) == "is nested more than 200 levels deep"
    assert excess_of(b"[" * (1 << 20)) == "has more than 200000 values"
    assert excess_of(b"[" + b"0," * 300_000 + b"0]") == "has more than 200000 values"


@given(st.binary(max_size=300))
def test_A9_what_is_no_json_is_left_to_the_parser(data: bytes) -> None:
    excess_of(data, most_levels=1, most_values=1)


def test_A9_a_string_without_an_end_takes_no_time_of_its_own() -> None:
    # An expression that tries again at each quote would take minutes for this.
    excess_of(b'"\\' * 500_000 + b"[" * 201)
    excess_of(b'"' + b"\\" * 1_000_000 + b"[" * 201)
