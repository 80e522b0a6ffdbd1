"""``corral run TOOL``, by the real command in real sandboxes."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from integration.cli.harness import CORRAL, Corral, Ended, Terminal

_TRACEBACK = "Traceback (most recent call last)"


def test_M13_a_tool_by_name_gives_its_result(corral: Corral) -> None:
    assert corral("run", "calculator", "expression=6 * 7") == Ended(0, "42\n", "")


def test_output_comes_before_the_result_and_each_on_its_stream(corral: Corral) -> None:
    code = "import sys; print('out', end=''); print('err', file=sys.stderr); {'a': [1]}"

    ended = corral("run", "python", f"code={code}")

    assert ended.status == 0
    assert ended.out == 'out\n{\n  "a": [\n    1\n  ]\n}\n'
    assert ended.err == "err\n"


def test_what_a_command_printed_is_not_printed_twice(corral: Corral) -> None:
    assert corral("run", "shell", "command=printf hello") == Ended(0, "hello", "")


def test_a_tool_that_fails_ends_with_1_and_says_why(corral: Corral) -> None:
    ended = corral("run", "python", "code=print('before'); 1 / 0")

    assert (ended.status, ended.out) == (1, "before\n")
    assert ended.err.endswith(
        "failed: ToolError: ZeroDivisionError: division by zero\n"
        "  remedy: Read the error and the output; the sandbox and its limits were not the cause.\n"
    )


def test_M2_a_limit_that_ends_a_tool_is_named_with_the_option_that_raises_it(corral: Corral) -> None:
    ended = corral("run", "shell", "command=echo started; sleep 60", "--limit", "timeout=1500ms")

    assert (ended.status, ended.out) == (1, "started\n")
    assert "failed: DeadlineExceeded" in ended.err
    assert "  limit: timeout=1.5s" in ended.err
    assert "  remedy: Raise --limit timeout=…" in ended.err


def test_a_refused_connection_is_told_as_a_denial(corral: Corral) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"

    ended = corral("run", "python", f"code={code}")

    assert ended.status == 1
    assert "failed: NetworkDenied" in ended.err
    assert "  denied: socket AF_INET" in ended.err


def test_bad_input_ends_with_2_and_runs_nothing(corral: Corral, tmp_path: Path) -> None:
    ended = corral(
        "run", "python", "cod=open('ran', 'w')", "--limit", "memory=much", "--env", "X", "--workspace", "none"
    )

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        'error: cod: unknown argument (did you mean "code"?)',
        "error: code: is missing",
        'error: --limit memory: expected a quantity such as 256Mi, found "much"',
        'error: --env X: expected NAME=VALUE, such as X="$X"',
        "error: --workspace none: not a directory",
        "remedy: corral tools show python tells what it takes",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "no-such-tool"],
        ["run", "calculator", "6 * 7"],
        ["run", "--no-such-option"],
        ["run", "-f", "missing.yaml"],
        ["run", "-f", "/dev/null"],
        ["run", "-f", "."],
        ["run", "calculator", "expression=1", "--parallel", "0"],
        ["run", "calculator", "expression=1", "-o", "xml"],
        ["run", "calculator", "expression=1", "--tools", "missing"],
        ["run", "calculator", "expression=@missing"],
        ["run", "calculator", "expression=\udcff"],
        ["run", "python", "code=" + "x" * 70_000],
        ["tools", "show", "no-such-tool"],
        ["tools", "--category"],
        ["validate"],
        ["validate", "-f", "missing.yaml"],
        ["nonsense"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("ascii", "replace").decode(),
)
def test_no_mistake_of_a_user_ends_in_a_traceback(corral: Corral, arguments: list[str]) -> None:
    ended = corral(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err
    assert _TRACEBACK not in ended.err


def test_standard_input_becomes_an_argument(corral: Corral) -> None:
    assert corral("run", "python", "code=-", stdin="print(6 * 7)\n") == Ended(0, "42\n", "")


def test_environment_files_and_a_file_as_argument_go_in(corral: Corral) -> None:
    corral.write("data.txt", "from a file")
    corral.write("code.py", "import os; print(os.environ['WHO'], open('in/data').read())")

    ended = corral("run", "python", "code=@code.py", "--env", "WHO=world", "--file", "data.txt=in/data")

    assert ended == Ended(0, "world from a file\n", "")


def test_B15_files_come_back_below_the_directory_that_is_named(corral: Corral, tmp_path: Path) -> None:
    command = "mkdir -p out/deep; echo 1 > out/a.csv; echo 2 > out/deep/b.csv; echo 3 > other"

    ended = corral(
        "run", "shell", f"command={command}", "--output-file", "out/**/*.csv", "--output-dir", "back"
    )

    assert ended.status == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.csv")) == [
        "back/out/a.csv",
        "back/out/deep/b.csv",
    ]
    assert "note: wrote back/out/a.csv (2 bytes)" in ended.err


def test_B15_no_file_comes_back_through_a_symbolic_link(corral: Corral, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "back/out").symlink_to(tmp_path / "outside")

    ended = corral(
        "run", "shell", "command=mkdir out; echo 1 > out/a", "--output-file", "out/*", "--output-dir", "back"
    )

    assert ended.status == 1
    assert "error: a file that came back was not written: 'out' is a symbolic link" in ended.err
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_workspace_is_worked_in_and_read_only_holds(corral: Corral, tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir(mode=0o777)
    if os.geteuid() == 0:
        os.chown(workspace, 65534, 65534)  # no sandbox runs with root's rights

    written = corral("run", "shell", "command=echo made > made; cat made", "--workspace", "work")
    refused = corral("run", "shell", "command=echo more > more", "--workspace", "work", "--read-only")

    assert written == Ended(0, "made\n", "")
    assert refused.status == 1
    assert [path.name for path in workspace.iterdir()] == ["made"]


def test_json_is_the_whole_task_with_its_status(corral: Corral) -> None:
    ended = corral("run", "python", "code=print('hi'); 42", "--limit", "memory=128Mi", "-o", "json")

    task = json.loads(ended.out)
    assert (ended.status, ended.err) == (0, "")
    assert (task["apiVersion"], task["kind"]) == ("corral.dev/v1alpha1", "AgentTask")
    assert task["spec"]["limits"] == {"memory": "128Mi"}
    assert task["status"]["phase"] == "Succeeded"
    (execution,) = task["status"]["executions"]
    assert (execution["result"], execution["output"]["stdout"]) == (42, "hi\n")


def test_a_task_that_failed_is_json_too_and_ends_with_1(corral: Corral) -> None:
    ended = corral("run", "python", "code=1 / 0", "-o", "json")

    assert ended.status == 1
    assert json.loads(ended.out)["status"]["reason"] == "ToolError"


def test_yaml_says_the_same(corral: Corral) -> None:
    ended = corral("run", "calculator", "expression=6 * 7", "-o", "yaml")

    assert yaml.safe_load(ended.out)["status"]["executions"][0]["result"] == 42


def test_a_tool_of_ones_own_is_one_file(corral: Corral) -> None:
    corral.write(
        "tools/double.yaml",
        """
apiVersion: corral.dev/v1alpha1
kind: Tool
metadata: {name: double}
spec:
  description: Twice.
  permissions: [read]
  inputSchema: {type: object, required: [value], properties: {value: {type: integer}}}
  run: {function: {code: "def main(value): return 2 * value"}}
""",
    )

    assert corral("run", "double", "value=21", "--tools", "tools") == Ended(0, "42\n", "")


def test_a_tool_prints_escape_sequences_to_a_pipe_but_not_to_a_terminal(
    corral: Corral, on_terminal: Callable[..., Terminal]
) -> None:
    code = r"print('\x1b]0;owned\x07\x1b[31mred\x1b[0m\x9b2J'); '\x1b[2Jresult'"

    assert b"\x1b]0;owned\x07\x1b[31mred" in corral.raw("run", "python", f"code={code}")

    terminal = on_terminal("run", "python", f"code={code}")
    assert terminal.end() == 0
    assert terminal.text == "␛]0;owned␇␛[31mred␛[0m\\x9b2J\n␛[2Jresult\n"


def test_an_error_on_a_terminal_is_in_colour_unless_that_is_unwanted(
    on_terminal: Callable[..., Terminal],
) -> None:
    coloured = on_terminal("run", "no-such-tool")
    plain = on_terminal("run", "no-such-tool", env={"NO_COLOR": "1"})

    assert (coloured.end(), plain.end()) == (2, 2)
    assert "\x1b[31;1merror:\x1b[0m" in coloured.text
    assert "\x1b" not in plain.text
    assert coloured.plain == plain.plain


def test_a_pipe_gets_no_escape_sequence_and_no_box(corral: Corral) -> None:
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["tools"],
        ["tools", "show", "python"],
        ["doctor"],
        ["run", "x"],
    ):
        ended = corral(*arguments)
        assert not re.search("[\x1b─-╿]", ended.out + ended.err), arguments


def test_a_reader_that_goes_away_ends_it_quietly(corral: Corral, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            "bash",
            "-c",
            f"{CORRAL} run shell 'command=yes | head -c 500000' | head -n 1; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
        text=True,
    )

    assert (ended.stdout, ended.stderr) == ("y\n141\n", "")


@pytest.mark.parametrize(
    "arguments", [["run", "calculator", "expression=1"], ["--help"], ["--version"], ["tools"]]
)
def test_a_full_disk_is_told(corral: Corral, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [CORRAL, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, text=True
        )

    assert (ended.returncode, ended.stderr) == (1, "error: stdout: No space left on device\n")


def test_it_runs_without_standard_streams(tmp_path: Path) -> None:
    command = f'{CORRAL} run python \'code=open("x", "w"); 1\' <&- >&- 2>&-'

    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=60, check=False).returncode == 0
