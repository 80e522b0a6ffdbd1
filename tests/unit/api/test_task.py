"""AgentTask: what is accepted, what is refused, and what goes over the wire."""

from typing import Any

import pytest
from pydantic import ValidationError

from corral.api import (
    AgentTask,
    AgentTaskSpec,
    AgentTaskStatus,
    ExecutionOutput,
    ExecutionStatus,
    ManifestError,
    ObjectMeta,
    Phase,
    Reason,
    SandboxStatus,
    parse_resource,
)


def resource(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "sum", "namespace": "team-a", "labels": {"app": "x"}},
        "spec": spec,
    }


def problems(spec: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ManifestError) as caught:
        parse_resource(resource(spec))
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_task_comes_back_from_the_wire_as_it_went() -> None:
    wire = resource({"tool": "python", "arguments": {"code": "1", "none": None}, "limits": {"cpu": "2"}})
    task = AgentTask.from_wire(wire)
    assert task.to_wire() == wire
    assert task.spec.arguments == {"code": "1", "none": None}


def test_what_is_default_is_left_out_of_a_manifest() -> None:
    spec = AgentTaskSpec.from_wire(
        {"tool": "t", "strategy": "Sequential", "priority": 0, "files": [], "env": []}
    )
    assert spec.to_wire() == {"tool": "t"}
    assert spec == AgentTaskSpec(tool="t")


def test_a_status_is_written_out_in_full() -> None:
    execution = ExecutionStatus(
        name="main", tool="t", phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, output=ExecutionOutput()
    )
    status = AgentTaskStatus(
        phase=Phase.SUCCEEDED,
        reason=Reason.COMPLETED,
        sandbox=SandboxStatus(backend="embedded", pod_uid="u"),
        executions=(execution,),
    )
    task = AgentTask(metadata=ObjectMeta(name="x"), spec=AgentTaskSpec(tool="t"), status=status)
    wire = task.to_wire()
    assert wire["status"]["executions"][0]["output"] == {"stdout": "", "stderr": "", "truncated": False}
    assert wire["status"]["sandbox"]["podUID"] == "u"
    assert AgentTask.from_wire(wire) == task


def test_a_task_tells_its_result_in_short() -> None:
    first = ExecutionStatus(name="a", tool="t", result=1)
    last = ExecutionStatus(name="b", tool="t", result={"n": 2}, output=ExecutionOutput(stdout="hi"))
    status = AgentTaskStatus(reason=Reason.COMPLETED, executions=(first, last))
    task = AgentTask(metadata=ObjectMeta(name="x"), spec=AgentTaskSpec(tool="t"), status=status)
    assert (task.succeeded, task.reason, task.result, task.stdout) == (True, Reason.COMPLETED, {"n": 2}, "hi")
    waiting = task.model_copy(update={"status": None})
    assert (waiting.succeeded, waiting.reason, waiting.result, waiting.stdout) == (False, None, None, "")


def test_a_task_cannot_be_changed() -> None:
    spec = AgentTaskSpec(tool="t")
    with pytest.raises(ValidationError, match="frozen"):
        spec.tool = "u"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({}, "spec", "exactly one of tool, steps and agent is needed"),
        (
            {"tool": "t", "agent": {"prompt": "x"}},
            "spec",
            "exactly one of tool, steps and agent is needed; found tool and agent",
        ),
        ({"tool": "t", "steps": [{"name": "a", "tool": "t"}]}, "spec", "found tool and steps"),
        ({"agent": {"prompt": "x"}, "arguments": {"a": 1}}, "spec.arguments", "arguments need a tool"),
        (
            {"tool": "t", "network": {"mode": "allowlist"}},
            "spec.network.allowedDomains",
            "at least one domain",
        ),
        ({"tool": "t", "network": {"maxRequests": 3}}, "spec.network.maxRequests", "needs mode: allowlist"),
        (
            {"tool": "t", "network": {"mode": "allowlist", "allowedDomains": ["10.0.0.1"]}},
            "spec.network.allowedDomains[0]",
            'expected a domain such as api.example.com or *.example.com, in lower case, found "10.0.0.1"',
        ),
        (
            {"tool": "t", "files": [{"path": "a"}]},
            "spec.files[0]",
            "exactly one of content, contentBase64 and artifact",
        ),
        (
            {"tool": "t", "files": [{"path": "a", "contentBase64": "a"}]},
            "spec.files[0].contentBase64",
            "expected base64",
        ),
        (
            {"tool": "t", "files": [{"path": "a", "content": "", "mode": 420}]},
            "spec.files[0].mode",
            "expected a string",
        ),
        (
            {"tool": "t", "files": [{"path": "a", "content": ""}, {"path": "./a", "content": ""}]},
            "spec.files[1].path",
            '"./a" is there already',
        ),
        (
            {"tool": "t", "env": [{"name": "A"}], "secretRefs": [{"name": "s", "key": "k", "env": "A"}]},
            "spec.secretRefs[0].env",
            'the variable "A" is set already',
        ),
        (
            {"tool": "t", "env": [{"name": "1A"}]},
            "spec.env[0].name",
            "expected an environment variable's name",
        ),
        ({"tool": "t", "env": [{"name": "A", "value": "x\0"}]}, "spec.env[0].value", "text without NUL"),
        (
            {"tool": "t", "retry": {"reasons": ["ToolError"]}},
            "spec.retry.reasons[0]",
            "expected one of Evicted",
        ),
        (
            {"tool": "t", "retry": {"maxAttempts": 11}},
            "spec.retry.maxAttempts",
            "expected at most 10, found 11",
        ),
        ({"tool": "t", "cancel": 1}, "spec.cancel", "expected true or false, found 1"),
        ({"tool": "t", "priority": "1"}, "spec.priority", 'expected a whole number, found "1"'),
        (
            {"tool": "t", "allowedPaths": []},
            "spec.allowedPaths",
            "expected at least one entry, found an empty list",
        ),
        ({"tool": "t", "arguments": [1]}, "spec.arguments", "expected an object, found a list of 1"),
        ({"tool": "t", "arguments": {"a": [2**63]}}, "spec.arguments.a[0]", "at most 64 bits"),
        ({"tool": "t", "arguments": {"a": float("nan")}}, "spec.arguments.a", "expected a finite number"),
        (
            {"tool": "t", "arguments": {"a": {1: 2}}},
            'spec.arguments.a["1"]',
            "expected keys that are strings",
        ),
        ({"tool": "t", "arguments": {"a": b"x"}}, "spec.arguments.a", "expected a JSON value, found a bytes"),
        ({"tool": "t", "arguments": {"a": "\ud800"}}, "spec.arguments.a", "lone surrogates"),
        ({"tool": "t", "env": [{"name": "A", "value": "\ud800"}]}, "spec.env[0].value", "lone surrogates"),
        ({"agent": {"prompt": "\ud800"}}, "spec.agent.prompt", "lone surrogates"),
        ({"tool": "Read File"}, "spec.tool", "expected a tool's name"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_fields_path(spec: dict[str, Any], path: str, message: str) -> None:
    found = problems(spec)
    assert list(found) == [path]
    assert message in found[path]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "", "a\0b", "./../x", "a//../x"]
)
def test_A7_no_path_leads_out_of_the_workspace(path: str) -> None:
    found = problems(
        {"tool": "t", "files": [{"path": path, "content": ""}], "allowedPaths": [path], "outputs": [path]}
    )
    assert list(found) == ["spec.files[0].path", "spec.allowedPaths[0]", "spec.outputs[0]"]


@pytest.mark.parametrize(
    "path", ["a", "a/b.txt", "./a", ".hidden", "..a", "a..", "...", "a/./b/", "ä/ö", "**/*.csv", "."]
)
def test_paths_inside_the_workspace_are_accepted(path: str) -> None:
    spec = AgentTaskSpec.from_wire({"tool": "t", "allowedPaths": [path], "outputs": [path]})
    assert spec.allowed_paths == (path,)


def test_all_problems_are_told_at_once() -> None:
    found = problems({"tool": 1, "limits": {"memory": "lots", "cpus": 1}, "steps": 3})
    assert found == {
        "spec.tool": "expected a string, found 1",
        "spec.limits.memory": 'expected a quantity such as 256Mi, found "lots"',
        "spec.limits.cpus": "unknown field",
        "spec.steps": "expected a list, found 3",
    }


def test_a_spec_of_more_than_64_kib_is_refused_with_a_way_out() -> None:
    half = {"content": "x" * 33_000}
    with pytest.raises(ManifestError) as caught:
        parse_resource(resource({"tool": "t", "files": [{"path": "a", **half}, {"path": "b", **half}]}))
    (problem,) = caught.value.problems
    assert problem.path == "spec"
    assert "at most 65536 are allowed" in problem.message
    assert problem.remedy is not None
    assert "--file" in problem.remedy
    assert (
        AgentTaskSpec.from_wire({"tool": "t", "files": [{"path": "a", **half}]}).files[0].data
        == b"x" * 33_000
    )


def test_arguments_deeper_than_64_levels_are_refused() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    AgentTaskSpec.from_wire({"tool": "t", "arguments": {"a": nested(63)}})
    found = problems({"tool": "t", "arguments": {"a": nested(50_000)}})
    assert list(found.values()) == ["expected at most 64 levels of nesting"]
