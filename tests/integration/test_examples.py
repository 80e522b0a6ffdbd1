"""Every example of every built-in tool, run for real."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from corral.api import AgentTask, AgentTaskSpec, ObjectMeta, Tool, ToolExample
from corral.catalogue import Catalogue
from corral.client import Client

EXAMPLES = [
    pytest.param(tool, example, id=f"{tool.name}-{example.name}")
    for tool in Catalogue.builtin()
    for example in tool.spec.examples
]


def contains(value: Any, part: Any) -> bool:
    """Whether ``part`` is a deep subset of ``value``: objects may have more members, all else is compared whole."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], below) for key, below in part.items()
        )
    return bool(value == part)


def test_every_built_in_tool_has_an_example() -> None:
    assert [tool.name for tool in Catalogue.builtin() if not tool.spec.examples] == []


@pytest.mark.parametrize(("tool", "example"), EXAMPLES)
def test_A6_example_does_what_the_manifest_says(client: Client, tool: Tool, example: ToolExample) -> None:
    spec = AgentTaskSpec(
        tool=tool.name, arguments=example.arguments, files=example.files, env=example.env, outputs=("**/*",)
    )
    task = client.run_task(AgentTask(metadata=ObjectMeta(name="example"), spec=spec))
    assert task.reason == example.reason, task.status
    assert task.status is not None
    if example.result is not None:
        assert task.result == example.result
    if example.result_contains is not None:
        assert contains(task.result, example.result_contains), task.result
    if example.stdout is not None:
        assert task.stdout == example.stdout
    if task.succeeded and tool.spec.output_schema is not None:
        Draft202012Validator(tool.spec.output_schema).validate(task.result)
