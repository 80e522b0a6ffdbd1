"""How texts are cut to what a result can carry."""

import json

from hypothesis import given
from hypothesis import strategies as st

from corral_runner.interface import ToolContext
from corral_tools import bounds


@given(st.text(), st.integers(min_value=0, max_value=200))
def test_a_clipped_text_fits_and_is_the_longest_start_that_does(text: str, limit_bytes: int) -> None:
    clipped, was_cut = bounds.clip(text, limit_bytes)
    assert text.startswith(clipped)
    assert was_cut == (clipped != text)
    assert len(json.dumps(clipped)) - 2 <= limit_bytes
    if was_cut:
        assert len(json.dumps(text[: len(clipped) + 1])) - 2 > limit_bytes


def test_the_budget_follows_the_output_limit_and_never_exceeds_a_result() -> None:
    assert bounds.budget_bytes(ToolContext("/", output_limit_bytes=10_000)) == 5000
    assert bounds.budget_bytes(ToolContext("/", output_limit_bytes=1 << 30)) == bounds.RESULT_BYTES
    assert bounds.budget_bytes(ToolContext("/", output_limit_bytes=0)) == 1


def test_the_budget_leaves_room_in_the_runners_default_result_limit() -> None:
    assert bounds.RESULT_BYTES < 256 * 1024
