"""What of JSON, tasks and refusals gRPC carries, and what it does where it cannot."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from corral.api import AgentTask, Problem, Reason
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.json_values import json_object, json_value, struct_of, value_of
from corral_gateway.grpc.machine import memory_usage_percent
from corral_gateway.grpc.outcomes import MOST_BYTES, REFUSING, refusal_of, response_of
from corral_gateway.grpc.refusals import code_of, status_of
from corral_gateway.problems import ProblemError

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_S1_what_a_value_carries_comes_back_as_it_was(data: Any) -> None:
    value = value_of(data)
    assert value is not None
    assert json_value(Value.FromString(value.SerializeToString())) == data


@pytest.mark.parametrize("level", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_S1_what_has_too_many_levels_is_no_value_and_everything_else_can_be_read(level: Any) -> None:
    data: Any = "x"
    while (value := value_of(data)) is not None:
        result = pb.TaskUpdate(tool_result=pb.ToolResult(output=value))
        assert pb.TaskUpdate.FromString(result.SerializeToString()) == result
        tool = pb.ToolCapability(examples=[pb.ToolExample(result=value)])
        found = pb.DiscoverToolsResponse(tools=[tool])
        assert pb.DiscoverToolsResponse.FromString(found.SerializeToString()) == found
        data = level(data)
    assert struct_of({"a": data}) is None


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60), [2**64], {"a": 2**63}])
def test_S1_whole_numbers_that_a_double_has_not_are_no_value(number: Any) -> None:
    assert value_of(number) is None


def test_S1_numbers_that_are_whole_become_integers() -> None:
    struct = Struct()
    struct.update({"a": 1.0, "b": 1.5, "c": -0.0, "d": 1e300})
    text = json.dumps(json_object(struct), sort_keys=True)
    assert text == '{"a": 1, "b": 1.5, "c": 0, "d": 1e+300}'
    assert math.isnan(json_value(Value(number_value=math.nan)))
    assert json_value(Value()) is None


def ended(result: Any = None, stdout: str = "", reason: str = "Completed", count: int = 1) -> AgentTask:
    """Return a task that has ended."""
    execution = {
        "name": "main",
        "tool": "shell",
        "reason": reason,
        "result": result,
        "output": {"stdout": stdout},
    }
    status = {"phase": "Succeeded", "reason": reason, "executions": [execution] * count}
    return AgentTask.model_validate({"metadata": {"name": "t"}, "spec": {"tool": "shell"}, "status": status})


def test_S1_a_result_that_a_value_cannot_carry_is_told_as_json() -> None:
    (result,) = response_of(ended(2**60)).tool_results
    assert (result.output_json, result.HasField("output")) == (str(2**60), False)


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_S1_an_answer_is_no_larger_than_a_client_takes(letter: str, count: int) -> None:
    response = response_of(ended(letter * (3 << 20), letter * (5 << 20), count=count))
    assert response.ByteSize() <= MOST_BYTES
    assert all(result.truncated for result in response.tool_results)
    assert response.result.startswith(letter * 1000)


@pytest.mark.parametrize("reason", list(Reason))
def test_S3_every_reason_is_an_answer_or_a_refusal_and_the_page_says_which(reason: Reason) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/grpc.md").read_text(encoding="utf-8")
    refusal = refusal_of(ended(reason=reason))
    assert (refusal is not None) == (reason in REFUSING)
    if refusal is None:
        assert response_of(ended(reason=reason)).status != pb.STATUS_CODE_UNSPECIFIED
        return
    code = code_of(refusal)
    assert code not in {StatusCode.UNKNOWN, StatusCode.INTERNAL}
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {code.value[0]} `{code.name}`")]
    assert f"`{reason}`" in row


def test_S3_details_fit_into_the_headers_of_a_client() -> None:
    problems = [Problem(f"field{number}" * 50, "\u20ac" * 5000, remedy="y" * 5000) for number in range(500)]
    from http import HTTPStatus

    error = ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "InvalidSpec",
        "\u20ac" * 5000,
        remedy="z" * 5000,
        problems=problems,
        retry_after_seconds=2**31,
    )
    status = status_of(error, "r" * 36)
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) * 3 < 8000


def test_S1_memory_is_the_containers_where_it_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n")
    assert memory_usage_percent(tmp_path, tmp_path / "meminfo") == 75
    (tmp_path / "memory.current").write_text("10\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_usage_percent(tmp_path, tmp_path / "meminfo") == 75
    (tmp_path / "memory.max").write_text("40\n")
    assert memory_usage_percent(tmp_path, tmp_path / "meminfo") == 25
    assert memory_usage_percent(tmp_path / "no", tmp_path / "no") == 0
