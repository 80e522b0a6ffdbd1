"""M1: what is wrong is refused with the field's name, and no pod starts for it."""

from typing import Any

import pytest

from cluster.tenant import Tenant, condition_of, reason_of
from eventually import eventually

CALCULATE: dict[str, Any] = {"tool": "calculator", "arguments": {"expression": "1"}}


def test_M1_what_cannot_run_starts_no_pod_and_says_why(warm: Tenant) -> None:
    claimed = warm.pods.names()
    wrong = {
        "InvalidArguments": warm.start("calculator", arguments={"expresion": "1"}),
        "ToolNotFound": warm.start("no_such_tool"),
        "Unsupported": warm.start(agent={"prompt": "Do something."}),
        "PermissionDenied": warm.start(
            "calculator", arguments={"expression": "1"}, limits={"timeout": "30m"}
        ),
    }
    for reason, name in wrong.items():
        task = warm.ended(name)
        accepted = condition_of(task, "Accepted")
        assert (reason_of(task), accepted["status"], accepted["reason"]) == (reason, "False", reason)
        assert condition_of(task, "Started")["status"] == "False"
        assert "sandbox" not in task["status"]
        assert warm.noted(name, reason)
    arguments = warm.ended(wrong["InvalidArguments"])["status"]
    assert "expresion" in arguments["message"]
    assert arguments["executions"][0]["error"]["field"] == "arguments.expresion"
    assert "no_such_tool" in warm.ended(wrong["ToolNotFound"])["status"]["message"]
    assert "gateway" in warm.ended(wrong["Unsupported"])["status"]["message"]
    assert warm.pods.names() == claimed


@pytest.mark.parametrize("levels", [100, 5000])
def test_A7_values_deeper_than_anybody_reads_are_refused_and_harm_nobody(
    tenant: Tenant, warm: Tenant, levels: int
) -> None:
    deep = "[" * levels + "]" * levels
    spec = f'{{"tool": "calculator", "arguments": {{"expression": {deep}}}}}'
    head = '"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "deep"}'
    tenant.kubectl("create", "--validate=false", "-f", "-", stdin=f'{{{head}, "spec": {spec}}}')
    # Nothing of it is parsed here: this process has no more room for it than the operator had.
    told = eventually(
        lambda: tenant.kubectl(
            "get", "agenttask", "deep", "-o", "jsonpath={.status.phase} {.status.message}"
        ),
        lambda text: text.startswith("Failed "),
    )
    assert "at most 64 levels" in told, told
    assert reason_of(warm.run("calculator", arguments={"expression": "1"})) == "Completed"
    tenant.kubectl("delete", "agenttask", "deep", "--wait=false")


def test_A7_a_schema_that_takes_for_ever_ends_its_task_and_harms_nobody(tenant: Tenant, warm: Tenant) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a|aa)+$"}}}
    tenant.tool("hostile", inputSchema=schema, run={"function": {"code": "def main(a): return a"}})
    names = [tenant.start("hostile", arguments={"a": "a" * (200 + n) + "!"}) for n in range(5)]
    assert reason_of(warm.run("calculator", arguments={"expression": "1"})) == "Completed"
    for task in tenant.all_ended(names):
        assert reason_of(task) == "InvalidArguments"
        assert "took too much time or memory" in task["status"]["message"]
    assert reason_of(tenant.run("hostile", arguments={"a": "aaa"})) == "Completed"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "exactly one of tool, steps and agent"),
        ({"tool": "python", "agent": {"prompt": "x"}}, "exactly one of tool, steps and agent"),
        ({"agent": {"prompt": "x"}, "arguments": {"a": 1}}, "arguments need a tool"),
        ({**CALCULATE, "limits": {"memory": "lots"}}, "spec.limits.memory"),
        ({**CALCULATE, "limits": {"timeout": "soon"}}, "spec.limits.timeout"),
        ({**CALCULATE, "limits": {"processes": 0}}, "spec.limits.processes"),
        ({**CALCULATE, "env": [{"name": "A=B", "value": "x"}]}, "spec.env[0].name"),
        ({**CALCULATE, "env": [{"name": "A"}, {"name": "A"}]}, "spec.env[1]"),
        ({**CALCULATE, "priority": 5000}, "spec.priority"),
        ({**CALCULATE, "retry": {"reasons": ["ToolError"]}}, "spec.retry.reasons[0]"),
        ({**CALCULATE, "activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds"),
        ({**CALCULATE, "tol": "python"}, 'unknown field "spec.tol"'),
        ({"steps": [{"name": "A b", "tool": "python"}]}, "spec.steps[0].name"),
        ({**CALCULATE, "files": [{"path": "/etc/passwd", "content": ""}]}, "spec.files[0].path"),
    ],
)
def test_M1_the_api_server_refuses_a_bad_spec_and_names_the_field(
    warm: Tenant, spec: dict[str, Any], field: str
) -> None:
    assert field in warm.refused(spec)


def test_M1_what_is_to_run_cannot_change_once_it_was_asked(warm: Tenant) -> None:
    name = warm.start("calculator", arguments={"expression": "1 + 1"})
    error = warm.kubectl(
        "patch", "at", name, "--type=merge", "-p", '{"spec":{"arguments":{"expression":"2"}}}', fails=True
    )
    assert "spec" in error
    assert reason_of(warm.ended(name)) == "Completed"


def test_M1_a_bad_pool_and_a_bad_tool_are_refused(warm: Tenant) -> None:
    assert "spec.replicas" in warm.refused({"replicas": -1}, "SandboxPool")
    assert "spec.whenEmpty" in warm.refused({"replicas": 1, "whenEmpty": "Maybe"}, "SandboxPool")
    assert "exactly one of builtin, function and command" in warm.refused(
        {"description": "x", "run": {}}, "Tool"
    )


def test_M1_what_only_the_operator_can_check_ends_as_InvalidSpec_with_the_field(warm: Tenant) -> None:
    steps = [
        {"name": "a", "tool": "calculator", "arguments": {"expression": "$(steps.b.result)"}},
        {"name": "b", "tool": "calculator", "arguments": {"expression": "$(steps.a.result)"}},
    ]
    task = warm.run(steps=steps, strategy="Parallel")
    assert reason_of(task) == "InvalidSpec"
    assert "spec.steps" in task["status"]["message"]
    deep = [
        {
            "name": f"s{n}",
            "tool": "calculator",
            "arguments": {"expression": f"$(steps.s{n - 1}.result)" if n else "1"},
        }
        for n in range(5)
    ]
    task = warm.run(steps=deep, maxDepth=3)
    assert reason_of(task) == "InvalidSpec"
    assert "maxDepth" in task["status"]["message"]
