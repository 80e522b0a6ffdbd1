"""From a command line to tasks, with every mistake told before anything runs."""

import io
import os
import sys
from pathlib import Path

import pytest

from corral.api import EnvVar, Limits
from corral.cli.exits import BadInputError
from corral.cli.request import Request, RunOptions, read_request

TOOL = """
apiVersion: corral.dev/v1alpha1
kind: Tool
metadata: {name: double}
spec:
  description: Twice.
  inputSchema:
    type: object
    additionalProperties: false
    required: [value]
    properties: {value: {type: integer}, note: {type: string}}
  run: {function: {code: "def main(value, note=''): return 2 * value"}}
"""
TASK = """
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: %s}
spec: {tool: double, arguments: {value: 2}}
"""


@pytest.fixture
def tool(tmp_path: Path) -> str:
    path = tmp_path / "double.yaml"
    path.write_text(TOOL)
    return str(path)


def read(*words: str, shows_files: bool = False, **options: object) -> Request:
    return read_request(RunOptions(words=words, **options), shows_files=shows_files)  # type: ignore[arg-type]


def problems(*words: str, **options: object) -> tuple[str, ...]:
    with pytest.raises(BadInputError) as caught:
        read(*words, **options)  # type: ignore[arg-type]
    return caught.value.problems


def test_a_tool_with_everything_is_one_task(tool: str, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo")
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "a=b").write_bytes(b"\xff")

    request = read(
        "double",
        "value=2",
        tools=(tool,),
        limits=("memory=256Mi", "processes=8", "timeout=5s"),
        env=("WHO=world", "EMPTY="),
        files=(f"{tmp_path}/run.sh", f"{tmp_path}/a=b", f"{tmp_path}/run.sh=bin/go"),
        workspace=str(tmp_path),
        read_only=True,
        output_files=("*.csv",),
        output_dir="out",
    )

    (task,) = request.tasks
    assert request.by_name
    assert task.metadata.name == "double"
    assert task.spec.arguments == {"value": 2}
    assert task.spec.limits == Limits(memory="256Mi", processes=8, timeout="5s")
    assert task.spec.env == (EnvVar(name="WHO", value="world"), EnvVar(name="EMPTY", value=""))
    assert [(file.path, file.data, file.mode) for file in task.spec.files] == [
        ("run.sh", b"echo", "0755"),
        ("a=b", b"\xff", "0644"),
        ("bin/go", b"echo", "0755"),
    ]
    assert task.spec.workspace is not None
    assert (task.spec.workspace.host_path, task.spec.workspace.read_only) == (str(tmp_path), True)
    assert task.spec.outputs == ("*.csv",)


def test_every_mistake_of_a_command_line_is_told_at_once(tool: str, tmp_path: Path) -> None:
    told = problems(
        "double",
        "valeu=2",
        tools=(tool,),
        limits=("memroy=1", "timeout=5", "cpu"),
        env=("1X=2", "HOME"),
        files=(f"{tmp_path}/none", str(tmp_path)),
        workspace=f"{tmp_path}/none",
    )

    assert told == (
        'valeu: unknown argument (did you mean "value"?)',
        "value: is missing",
        '--limit memroy=1: there is no limit "memroy"; did you mean "memory"?',
        "--limit cpu: expected name=value, such as memory=256Mi",
        '--limit timeout: expected a duration such as 30s, 1m30s or 500ms, found 5 (write "5s")',
        '--env 1X: name: expected an environment variable\'s name such as API_URL, found "1X"',
        '--env HOME: expected NAME=VALUE, such as HOME="$HOME"',
        f"{tmp_path}/none: No such file or directory",
        f"{tmp_path}: Is a directory",
        f"--workspace {tmp_path}/none: not a directory",
    )


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        ((), "nothing to run", "Name a tool"),
        (("doubel",), 'there is no tool "doubel"; did you mean "double"?', "corral tools lists"),
        (("value=2",), 'there is no tool "value=2"', "The tool's name comes first"),
        (("task.yaml",), 'there is no tool "task.yaml"', "corral run -f task.yaml"),
    ],
)
def test_what_cannot_be_run_is_told_with_what_to_do(
    tool: str, words: tuple[str, ...], problem: str, remedy: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        read(*words, tools=(tool,))

    assert caught.value.problems == (problem,)
    assert caught.value.remedy is not None
    assert remedy in caught.value.remedy


def test_files_that_come_back_need_a_place(tool: str) -> None:
    assert problems("double", "value=2", tools=(tool,), output_files=("*",)) == (
        "--output-file says which files come back, and no option says where to",
    )
    assert read("double", "value=2", tools=(tool,), output_files=("*",), shows_files=True).tasks


def test_read_only_needs_a_workspace(tool: str) -> None:
    assert problems("double", "value=2", tools=(tool,), read_only=True) == (
        "--read-only goes with --workspace DIR",
    )


def test_options_of_a_tool_are_refused_beside_manifests_not_ignored(tmp_path: Path) -> None:
    told = problems("double", sources=(str(tmp_path),), limits=("memory=1Gi",), env=("A=b",))

    assert told == (
        "double cannot go with -f: a manifest has spec.tool and spec.arguments",
        "--limit cannot go with -f: a manifest has spec.limits",
        "--env cannot go with -f: a manifest has spec.env",
    )


def test_text_comes_from_files_and_standard_input(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note").write_text("from a file")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"21")))

    request = read("double", "value=-", f"note=@{tmp_path}/note", tools=(tool,))

    assert request.tasks[0].spec.arguments == {"value": 21, "note": "from a file"}


def test_standard_input_is_read_once(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"21")))

    assert problems("double", "value=-", "note=-", tools=(tool,)) == (
        "key=-: standard input was read already, by key=-",
    )


def test_text_that_is_none_or_too_much_is_refused(tool: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"abc\xff")
    with (tmp_path / "huge").open("wb") as huge:
        os.truncate(huge.fileno(), 2 << 20)

    assert problems("double", "value=1", f"note=@{tmp_path}/binary", tools=(tool,)) == (
        f"{tmp_path}/binary: not UTF-8 text (byte 3); bytes go into the workspace with --file",
    )
    assert problems("double", "value=1", f"note=@{tmp_path}/huge", tools=(tool,)) == (
        f"{tmp_path}/huge: larger than 1024 KiB, the most that goes in this way",
    )
    assert problems("double", "value=1", tools=(tool,), files=(f"{tmp_path}/huge",)) == (
        f"{tmp_path}/huge: larger than 64 KiB, the most that goes in this way",
    )


def test_manifests_bring_tools_tasks_and_pools(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        TOOL
        + "---"
        + TASK % "one"
        + "---"
        + (TASK % "x").replace("name: x", "generateName: many-")
        + "---\napiVersion: corral.dev/v1alpha1\nkind: SandboxPool\nmetadata: {name: warm}\nspec: {replicas: 1}\n"
    )

    request = read(sources=(str(tmp_path),))

    one, many = request.tasks
    assert one.metadata.name == "one"
    assert many.metadata.name is not None
    assert many.metadata.name.startswith("many-")
    assert len(many.metadata.name) == len("many-") + 5
    assert "double" in request.catalogue
    assert not request.by_name
    assert request.notes == ("SandboxPool warm is not used here: pools belong to a cluster (kubectl apply)",)


def test_every_problem_of_every_manifest_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TASK.replace("spec:", "sepc:") % "a" + "---" + TASK % "same")
    (tmp_path / "b.yaml").write_text(TASK % "b" + "\n  extra: [1")
    (tmp_path / "c.yaml").write_text(TASK % "same")

    told = problems(sources=(f"{tmp_path}/a.yaml", f"{tmp_path}/b.yaml", f"{tmp_path}/c.yaml", "nowhere"))

    places = [problem.removeprefix(f"{tmp_path}/") for problem in told]
    assert places[:2] == [
        "a.yaml:2:1: spec: is missing",
        'a.yaml:5:1: sepc: unknown field (did you mean "spec"?)',
    ]
    assert places[2].startswith("b.yaml:7:")
    assert places[3:] == ["nowhere: No such file or directory"]


def test_a_name_that_two_tasks_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TASK % "same")
    (tmp_path / "b.yaml").write_text(TASK % "same")

    assert problems(sources=(str(tmp_path),)) == (
        f'{tmp_path}/b.yaml:2: metadata.name: the AgentTask "same" is there already, at {tmp_path}/a.yaml:2',
    )


def test_a_tool_that_has_the_name_of_another_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TOOL.replace("double", "calculator") + "---" + TASK % "task")

    assert problems(sources=(str(tmp_path),)) == (
        f'{tmp_path}/a.yaml:2: metadata.name: a tool "calculator" is registered already',
    )


def test_manifests_without_a_task_are_nothing_to_run(tool: str) -> None:
    assert problems(sources=(tool,)) == (f"there is no AgentTask in {tool}, only Tool",)
