"""``corral validate``: problems with their places."""

import io
import json
from pathlib import Path

import pytest

from corral.cli.exits import BadInputError, Exit
from corral.cli.formats import Format
from corral.cli.review import validate_manifests
from corral.cli.terminal import Stream, Terminal

CHAIN = """\
# A comment first.
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata:
  name: chain
spec:
  steps:
    - name: first
      tool: calculator
      arguments:
        expresion: "1"
    - name: second
      tool: calculator
      arguments: {expression: "$(steps.first.result) + 1", extra: 1}
    - name: third
      tool: calculatr
---
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: single}
spec:
  tool: calculator
  arguments: {expression: 5}
"""


def validate(path: Path, style: Format = Format.TABLE) -> tuple[Exit, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = validate_manifests([str(path)], [], Terminal(Stream(out), Stream(err)), style)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    return path


def test_arguments_are_held_against_their_tools_with_line_and_column(chain: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        validate(chain)

    assert caught.value.problems == (
        f"{chain}:10:7: spec.steps[0].arguments.expression: is missing",
        f'{chain}:11:20: spec.steps[0].arguments.expresion: unknown argument (did you mean "expression"?)',
        f"{chain}:23:27: spec.arguments.expression: expected a string, found 5",
    )


def test_programs_get_the_problems_as_data(chain: Path) -> None:
    status, out, _err = validate(chain, Format.JSON)

    report = json.loads(out)
    assert status is Exit.BAD_INPUT
    assert report["valid"] is False
    assert report["problems"][1] == {
        "path": "spec.steps[0].arguments.expresion",
        "message": "unknown argument",
        "remedy": 'did you mean "expression"?',
        "source": str(chain),
        "line": 11,
        "column": 20,
    }


def test_a_tool_that_is_not_known_here_is_told_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "apiVersion: corral.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: a}\nspec:\n  tool: calculatr\n"
    )

    status, out, err = validate(path)

    assert status is Exit.SUCCEEDED
    assert out == "valid: 1 AgentTask\n"
    assert err == (
        f'note: {path}:5:9: spec.tool: there is no tool "calculatr" here, so its arguments were not checked '
        '(did you mean "calculator"?)\n'
    )
    assert json.loads(validate(path, Format.JSON)[1])["notes"][0]["line"] == 5


def test_problems_outside_of_manifests_are_data_too(tmp_path: Path) -> None:
    status, out, _err = validate(tmp_path / "none.yaml", Format.JSON)

    assert status is Exit.BAD_INPUT
    assert json.loads(out)["problems"] == [
        {"message": "No such file or directory", "source": str(tmp_path / "none.yaml")}
    ]
