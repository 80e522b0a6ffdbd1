"""What of an execution fits into a status."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import (
    Denial,
    ExecutionError,
    ExecutionStatus,
    LimitBreach,
    OutputFile,
    Reason,
    SandboxStatus,
    Usage,
    json_problem,
)
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


HOSTILE = st.text(alphabet=st.characters(), max_size=40) | st.sampled_from(
    ["x" * 20_000, "\ud800", "<&>" * 9000]
)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_M2_a_result_that_the_api_server_would_round_is_refused_and_said_how_to_pass_on(number: int) -> None:
    found = _fit(result(value={"a": [number]}))
    assert (found.reason, found.phase, found.result) == (Reason.TOOL_ERROR, "Failed", None)
    assert found.error is not None
    assert (found.error.type, found.error.field) == ("ResultRefused", "result.a[0]")
    assert found.message is not None
    assert "64 bits; write it as a string" in found.message


def test_M2_numbers_of_64_bits_are_kept_exactly() -> None:
    value = [2**63 - 1, -(2**63), 0.1]
    assert _fit(result(value=value)).result == value


def test_M2_a_failed_execution_keeps_its_own_reason_although_its_result_cannot_be_passed_on() -> None:
    found = _fit(result(Reason.DEADLINE_EXCEEDED, value=2**70))
    assert (found.reason, found.result) == (Reason.DEADLINE_EXCEEDED, None)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"exit_code": 2**63}, "exitCode"),
        ({"signal": -(2**80)}, "signal"),
        ({"usage": Usage(peak_memory_bytes=2**64)}, "usage.peakMemoryBytes"),
        ({"denials": (Denial(syscall="a"), Denial(syscall="b", count=2**63))}, "denials[1].count"),
        ({"files": (OutputFile(path="big", size=2**63),)}, "files[0].size"),
        ({"files": (OutputFile.model_construct(path="x" * 4097, size=1, content="a"),)}, "files[0].path"),
        ({"files": (OutputFile.model_construct(path="\ud800", size=1, content="a"),)}, "files[0].path"),
    ],
)
def test_M2_what_no_runner_sends_ends_the_execution_and_is_named(told: dict[str, Any], named: str) -> None:
    found = _fit(result(value=1, stdout="said").model_copy(update=told))
    assert found.reason is Reason.SANDBOX_FAILED
    assert named in (found.message or "")
    assert (found.result, found.files, found.denials, found.usage) == (None, (), (), None)
    assert found.output is not None
    assert found.output.stdout == "said"


def test_B15_denials_and_layers_are_cut_to_what_a_runner_tells() -> None:
    many = tuple(Denial(syscall="s" * 9000, detail="d" * 9000) for _ in range(1000))
    names = tuple("é" * 9000 for _ in range(1000))
    sandbox = SandboxStatus(pod_name="box", isolation=names, weakened=names)
    plenty = Settings(status_bytes=1_000_000)
    found = fit(result().model_copy(update={"denials": many, "sandbox": sandbox}), (), plenty, LATER)
    assert found.reason is Reason.COMPLETED
    assert found.denials == (Denial(syscall="s" * 1000, detail="d" * 1000),) * 64
    assert found.sandbox == SandboxStatus(
        pod_name="box", isolation=("é" * 32,) * 32, weakened=("é" * 32,) * 32
    )


def test_B15_denials_that_do_not_fit_go_with_the_rest() -> None:
    denials = tuple(Denial(syscall="s" * 1000, detail="d" * 1000) for _ in range(64))
    usage = Usage(peak_memory_bytes=1)
    found = _fit(result().model_copy(update={"denials": denials, "usage": usage}))
    assert (found.reason, found.denials, found.usage) == (Reason.OUTPUT_LIMIT, (), usage)


def test_M2_a_character_that_no_text_has_is_replaced_and_is_no_cut() -> None:
    found = _fit(result(stdout="a\ud800b")).output
    assert found is not None
    assert (found.stdout, found.truncated) == ("a?b", False)


def test_B15_what_the_api_server_writes_as_six_characters_counts_as_six() -> None:
    assert _fit(result(value="x" * 60_000)).reason is Reason.COMPLETED
    assert _fit(result(value="<" * 60_000)).reason is Reason.OUTPUT_LIMIT
    assert _fit(result(value="\u2028" * 12_000)).reason is Reason.OUTPUT_LIMIT


def test_M2_an_error_keeps_what_can_be_told_of_it() -> None:
    error = ExecutionError(
        type="E" * 2000, message="m" * 20_000, field="f", rule="\ud800", details={"n": 2**63}
    )
    limit = LimitBreach(name="n" * 2000, value=1.0, unit="u" * 2000, enforced_by="e" * 2000)
    found = _fit(result(Reason.TOOL_ERROR).model_copy(update={"error": error, "limit": limit}))
    assert found.error == ExecutionError(type="E" * 1000, message="m" * 10_000, field="f", rule="?")
    assert found.limit == LimitBreach(name="n" * 1000, value=1.0, unit="u" * 1000, enforced_by="e" * 1000)


@given(st.lists(HOSTILE, min_size=9, max_size=9), st.lists(st.integers(), min_size=3, max_size=3))
def test_B15_whatever_a_runner_writes_into_its_fields_a_status_can_be_written(
    texts: list[str], numbers: list[int]
) -> None:
    told = result(value=texts[0], stdout=texts[1]).model_copy(
        update={
            "message": texts[2],
            "error": ExecutionError(type=texts[3], message=texts[4], details=texts[5]),
            "denials": (Denial.model_construct(syscall=texts[6], detail=texts[7], count=abs(numbers[0])),),
            "sandbox": SandboxStatus(isolation=(texts[8],)),
            "exit_code": numbers[1],
            "usage": Usage(output_bytes=abs(numbers[2])),
        }
    )
    found = _fit(told)
    wire = json.loads(json.dumps(found.model_dump(mode="json", by_alias=True, exclude_none=True)))
    assert ExecutionStatus.model_validate(wire) == found
    assert json_problem(wire) is None
    assert _size(found) <= SMALL.status_bytes + 700
