"""What of an execution fits into a status."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import ExecutionStatus, OutputFile, Reason
from corral_operator.decisions.bounds import fit
from corral_operator.settings import Settings
from unit.operator.factories import NOW
from unit.operator.task_factories import result

SMALL = Settings(status_output_bytes=1024, status_bytes=65536)
LATER = NOW + timedelta(seconds=1)


def _fit(execution: ExecutionStatus, *others: ExecutionStatus) -> ExecutionStatus:
    return fit(execution, others, SMALL, LATER)


def _size(execution: ExecutionStatus) -> int:
    wire = execution.model_dump(mode="json", by_alias=True, exclude_none=True)
    return len(json.dumps(wire, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _file(path: str, size: int, *, kept: bool) -> OutputFile:
    return OutputFile(path=path, size=size, sha256="0" * 64, content="x" * size if kept else None)


def test_B15_what_fits_stays_as_it_is() -> None:
    whole = result(value={"a": 1}, stdout="x" * 1024, files=(_file("a", 10, kept=True),))
    assert _fit(whole) == whole


@pytest.mark.parametrize(
    ("stdout", "kept"),
    [
        ("x" * 1025, "x" * 1024),
        ("é" * 512, "é" * 512),
        ("x" + "é" * 512, "x" + "é" * 511),
        ("€" * 400, "€" * 341),
        ("😀" * 300, "😀" * 256),
        ("x" * 1023 + "😀", "x" * 1023),
    ],
)
def test_M2_output_is_cut_between_characters_and_said_to_be(stdout: str, kept: str) -> None:
    found = _fit(result(stdout=stdout)).output
    assert found is not None
    assert (found.stdout, found.truncated) == (kept, kept != stdout)


def test_M2_the_two_streams_are_cut_each_for_itself() -> None:
    both = result().model_copy(
        update={"output": result(stdout="a" * 2000).output.model_copy(update={"stderr": "b"})}  # type: ignore[union-attr]
    )
    found = _fit(both).output
    assert found is not None
    assert (found.stdout, found.stderr, found.truncated) == ("a" * 1024, "b", True)


@given(st.text(max_size=3000))
def test_M2_what_is_left_of_any_output_is_its_beginning_and_within_the_bound(text: str) -> None:
    found = _fit(result(stdout=text)).output
    assert found is not None
    assert text.startswith(found.stdout)
    assert len(found.stdout.encode()) <= 1024
    assert found.truncated is (found.stdout != text)


def test_B15_a_file_that_did_not_fit_ends_the_execution_and_is_named() -> None:
    found = _fit(result(files=(_file("small", 3, kept=True), _file("big", 99_999, kept=False))))
    assert found.reason is Reason.OUTPUT_LIMIT
    assert found.error is not None
    assert found.error.field == "spec.outputs"
    assert "big (99999 bytes)" in found.error.message
    assert "small" not in found.error.message
    assert [file.path for file in found.files] == ["small", "big"]


def test_B15_a_failed_execution_keeps_its_own_reason_although_a_file_did_not_fit() -> None:
    found = _fit(result(Reason.TOOL_ERROR, files=(_file("big", 99_999, kept=False),)))
    assert found.reason is Reason.TOOL_ERROR


def test_B15_a_result_that_is_too_large_is_refused_and_not_cut() -> None:
    found = _fit(result(value="x" * 70_000))
    assert found.reason is Reason.OUTPUT_LIMIT
    assert (found.result, found.files, found.output) == (None, (), None)
    assert "65536" in (found.message or "")


def test_B15_many_small_files_and_one_too_large_still_fit_into_the_status() -> None:
    files = tuple(_file(f"f{n}", 16_000, kept=True) for n in range(8))
    found = _fit(result(files=(*files, _file("big", 99_999, kept=False))))
    assert found.reason is Reason.OUTPUT_LIMIT
    assert _size(found) <= SMALL.status_bytes


def test_B15_several_steps_share_the_room() -> None:
    first = result(name="a", value="x" * 40_000)
    second = result(name="b", value="y" * 20_000)
    assert _fit(second, first) == second
    assert _fit(result(name="b", value="y" * 30_000), first).reason is Reason.OUTPUT_LIMIT


VALUES: Any = st.recursive(
    st.one_of(st.text(max_size=50), st.integers(), st.none()),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@given(values=st.lists(st.tuples(VALUES, st.integers(0, 30_000)), min_size=1, max_size=8))
def test_B15_whatever_steps_bring_the_whole_stays_within_the_bound(values: list[tuple[Any, int]]) -> None:
    done: list[ExecutionStatus] = []
    for number, (value, size) in enumerate(values):
        done.append(fit(result(name=f"s{number}", value=[value, "é" * size]), done, SMALL, LATER))
    # An execution that was refused for its size still says so in a few hundred bytes.
    assert sum(_size(one) for one in done) <= SMALL.status_bytes + 700 * len(done)
