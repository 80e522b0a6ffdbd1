"""The runner's frames, typed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import (
    Denial,
    ExecutionError,
    ExecutionResult,
    FileChunk,
    Frame,
    FrameError,
    LimitBreach,
    Output,
    Progress,
    Ready,
    Reason,
    Result,
    ReturnedFile,
    RunnerError,
    Started,
    Usage,
    parse_frame,
)

BASE: dict[str, Any] = {"seq": 3, "t": 0.5, "execution": "main"}


@pytest.mark.parametrize(
    ("frame", "parsed"),
    [
        (
            {"type": "ready", "runner": "0.1.0", "protocol": 1, "isolation": ["userns"], "weakened": []},
            Ready(3, 0.5, "0.1.0", 1, ("userns",), (), "main"),
        ),
        ({"type": "started", "pid": 7, "attempt": 2}, Started(3, 0.5, 7, 2, "main")),
        ({"type": "stdout", "data": "hä"}, Output(3, 0.5, "stdout", "hä", "main")),
        ({"type": "stderr", "base64": "/w=="}, Output(3, 0.5, "stderr", b"\xff", "main")),
        ({"type": "progress", "fraction": 0.25, "message": "x"}, Progress(3, 0.5, 0.25, "x", "main")),
        ({"type": "progress", "fraction": None, "message": ""}, Progress(3, 0.5, None, "", "main")),
        (
            {"type": "file", "path": "a", "size": 2, "mode": "0644", "data": "aGk=", "last": True},
            FileChunk(3, 0.5, "a", 2, "0644", b"hi", True, "main"),
        ),
        ({"type": "error", "code": "Busy", "message": "no"}, RunnerError(3, 0.5, "Busy", "no", "main")),
    ],
)
def test_each_frame_of_the_protocol_has_its_type(frame: dict[str, Any], parsed: Frame) -> None:
    assert parse_frame({**BASE, **frame, "new": "a later runner may say more"}) == parsed


def test_M2_a_result_says_how_it_ended_and_which_limit_did_it() -> None:
    frame = {
        **BASE,
        "type": "result",
        "reason": "OutOfMemory",
        "message": "too much",
        "exitCode": None,
        "signal": 9,
        "result": {"a": [1]},
        "error": {"type": "MemoryError", "message": "m", "details": {"x": 1}, "new": 1},
        "limit": {"name": "memory", "value": 1048576, "unit": "bytes", "enforcedBy": "cgroup"},
        "truncated": True,
        "denials": [{"syscall": "socket", "detail": "AF_INET", "count": 2}],
        "files": [{"path": "a", "size": 1}, {"path": "b", "size": 9, "skipped": "too large"}],
        "usage": {"cpuSeconds": 0.1, "peakMemoryBytes": 5, "peakProcesses": 1, "wallSeconds": 1.5},
    }
    parsed = parse_frame(frame)
    assert parsed == Result(
        3,
        0.5,
        ExecutionResult(
            reason=Reason.OUT_OF_MEMORY,
            message="too much",
            exit_code=None,
            signal=9,
            result={"a": [1]},
            error=ExecutionError(type="MemoryError", message="m", details={"x": 1}),
            limit=LimitBreach(name="memory", value=1048576, unit="bytes", enforced_by="cgroup"),
            truncated=True,
            denials=(Denial(syscall="socket", detail="AF_INET", count=2),),
            files=(ReturnedFile("a", 1), ReturnedFile("b", 9, "too large")),
            usage=Usage(cpu_seconds=0.1, peak_memory_bytes=5, peak_processes=1, wall_seconds=1.5),
        ),
        "main",
    )
    assert not parsed.result.succeeded


def test_a_short_result_is_enough() -> None:
    parsed = parse_frame({"seq": 0, "t": 0, "type": "result", "reason": "Completed"})
    assert parsed == Result(0, 0, ExecutionResult(Reason.COMPLETED))


def test_a_result_that_no_status_can_hold_is_the_tools_error() -> None:
    deep: Any = 1
    for _ in range(1000):
        deep = [deep]
    for value, why in (
        (deep, "result[0][0][0][0]: expected at most 64 levels"),
        ({"a": "\ud800"}, "result.a: expected text"),
    ):
        parsed = parse_frame({**BASE, "type": "result", "reason": "Completed", "result": value})
        assert isinstance(parsed, Result)
        assert (parsed.result.reason, parsed.result.result) == (Reason.TOOL_ERROR, None)
        assert why in parsed.result.message
    large = parse_frame({**BASE, "type": "result", "reason": "Completed", "result": 2**100})
    assert isinstance(large, Result)
    assert large.result.result == 2**100


def test_output_is_text_and_bytes() -> None:
    assert Output(0, 0, "stdout", "ä").raw == "ä".encode()
    assert Output(0, 0, "stdout", b"\xffx").text == "�x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "stdouts"}, "type: expected one of ready"),
        ({"type": ["stdout"]}, "type: expected one of ready"),
        ({"seq": -1}, "seq: expected"),
        ({"seq": True}, "seq: expected"),
        ({"seq": "1"}, "seq: expected"),
        ({"t": "now"}, "t: expected"),
        ({"execution": 1}, "execution: expected"),
        ({"data": 1}, "expected base64"),
        ({"data": None, "base64": "!"}, "expected base64"),
        ({"type": "result", "reason": "Fine"}, "reason: not one of"),
        ({"type": "result", "reason": None}, "reason: not one of"),
        (
            {"type": "result", "reason": "Completed", "usage": {"cpuSeconds": "x"}},
            "usage.cpuSeconds: expected a number",
        ),
        ({"type": "result", "reason": "Completed", "error": {}}, "error.type: is missing"),
        ({"type": "result", "reason": "Completed", "denials": {}}, "denials: not what"),
        ({"type": "result", "reason": "Completed", "files": [1]}, "files: expected"),
        ({"type": "result", "reason": "Completed", "exitCode": True}, "exitCode: not what"),
        ({"type": "progress", "fraction": True}, "fraction: not what"),
        ({"type": "started", "pid": "1"}, "pid: not what"),
        ({"type": "file", "path": "out/\ud800"}, "path: expected text"),
        ({"type": "ready", "protocol": 1, "isolation": [1]}, "isolation: expected"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse_frame({**BASE, "type": "stdout", "data": "x", **change})
    assert message in str(caught.value)


keys = st.sampled_from(
    [
        "seq",
        "t",
        "type",
        "execution",
        "data",
        "base64",
        "pid",
        "attempt",
        "reason",
        "usage",
        "error",
        "limit",
        "denials",
        "files",
    ]
)
values: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers())
    | st.just({})
)
types = st.sampled_from(["ready", "started", "stdout", "stderr", "progress", "file", "result", "error"])


@given(st.dictionaries(keys, values), types)
def test_no_object_raises_anything_but_a_frame_error(frame: dict[str, Any], kind: str) -> None:
    try:
        parse_frame({"seq": 0, "t": 0.0, **frame, "type": kind})
    except FrameError as error:
        assert str(error)  # noqa: PT017 - the other outcome is as good
