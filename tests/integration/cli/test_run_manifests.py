"""``corral run -f``, by the real command in real sandboxes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from integration.cli.harness import Corral, Terminal

TASK = """
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: %s}
spec: {tool: %s, arguments: %s}
"""
TOOL = """
apiVersion: corral.dev/v1alpha1
kind: Tool
metadata: {name: double}
spec:
  description: Twice.
  permissions: [read]
  inputSchema: {type: object, required: [value], properties: {value: {type: integer}}}
  run: {function: {code: "def main(value): return 2 * value"}}
"""
POOL = """
apiVersion: corral.dev/v1alpha1
kind: SandboxPool
metadata: {name: warm}
spec: {replicas: 2}
"""
CHAIN = """
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: chain}
spec:
  steps:
    - {name: numbers, tool: python, arguments: {code: "print('working'); [1, 2, 3]"}}
    - {name: total, tool: calculator, arguments: {expression: "$(steps.numbers.result.2) * 14"}}
"""


def task(name: str, code: str) -> str:
    return TASK % (name, "python", json.dumps({"code": code}))


def test_one_task_shows_its_output_and_its_result(corral: Corral) -> None:
    corral.write("task.yaml", task("one", "print('hello'); 42"))

    ended = corral("run", "-f", "task.yaml")

    assert (ended.status, ended.out, ended.err) == (0, "hello\n42\n", "")


def test_M13_several_documents_with_a_tool_of_their_own_and_a_pool(corral: Corral) -> None:
    documents = [TOOL, TASK % ("first", "double", "{value: 21}"), POOL, task("second", "'text'")]
    corral.write("all.yaml", "---".join(documents))

    ended = corral("run", "-f", "all.yaml", "--parallel", "1")

    assert ended.status == 0
    assert ended.out.splitlines()[0].split() == ["NAME", "TOOL", "PHASE", "REASON", "DURATION", "RESULT"]
    rows = [line.split() for line in ended.out.splitlines()[1:]]
    assert [[row[0], row[1], row[2], row[3], row[5]] for row in rows] == [
        ["first", "double", "Succeeded", "Completed", "42"],
        ["second", "python", "Succeeded", "Completed", "text"],
    ]
    first, *progress = ended.err.splitlines()
    assert first == "note: SandboxPool warm is not used here: pools belong to a cluster (kubectl apply)"
    assert [line.split(" after")[0] for line in progress] == [
        "[1/2] first: Completed",
        "[2/2] second: Completed",
    ]


def test_a_directory_and_standard_input_run_together(corral: Corral) -> None:
    corral.write("tasks/a.yaml", task("a", "1"))
    corral.write("tasks/b.json", json.dumps(yaml.safe_load(task("b", "2"))))
    corral.write("tasks/notes.txt", "no manifest")

    ended = corral("run", "-f", "tasks", "-f", "-", "-o", "json", stdin=task("c", "3"))

    listed = json.loads(ended.out)
    assert (ended.status, ended.err) == (0, "")
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert [
        (item["metadata"]["name"], item["status"]["executions"][0]["result"]) for item in listed["items"]
    ] == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]


def test_tasks_run_at_the_same_time(corral: Corral, tmp_path: Path) -> None:
    # Each waits for a file that the other makes, so neither can end before the other has begun.
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    meet = "touch %s; while [ ! -e %s ]; do sleep 0.01; done"
    manifests = []
    for name, other in (("left", "right"), ("right", "left")):
        manifest = yaml.safe_load(TASK % (name, "shell", json.dumps({"command": meet % (name, other)})))
        manifest["spec"]["workspace"] = {"hostPath": str(tmp_path / "shared")}
        manifest["spec"]["limits"] = {"timeout": "60s"}
        manifests.append(manifest)
    corral.write("both.yaml", yaml.safe_dump_all(manifests))
    if os.geteuid() == 0:
        os.chown(tmp_path / "shared", 65534, 65534)

    assert corral("run", "-f", "both.yaml", "--parallel", "2").status == 0


def test_one_failure_among_many_ends_with_1_and_is_explained(corral: Corral) -> None:
    corral.write(
        "tasks.yaml", "---".join([task("good", "1"), task("bad", "1 / 0"), TASK % ("lost", "nothing", "{}")])
    )

    ended = corral("run", "-f", "tasks.yaml")

    assert ended.status == 1
    assert [line.split()[0:4] for line in ended.out.splitlines()[1:]] == [
        ["good", "python", "Succeeded", "Completed"],
        ["bad", "python", "Failed", "ToolError"],
        ["lost", "nothing", "Failed", "ToolNotFound"],
    ]
    assert "failed: bad: ToolError: ZeroDivisionError: division by zero" in ended.err
    assert 'failed: lost: ToolNotFound: there is no tool "nothing"' in ended.err


def test_nothing_runs_while_any_manifest_is_wrong(corral: Corral, tmp_path: Path) -> None:
    corral.write("good.yaml", task("good", "print('ran')"))
    corral.write("bad.yaml", task("bad", "1").replace("tool: python", "tol: python") + "---\nkind: Task\n")

    ended = corral("run", "-f", "good.yaml", "-f", "bad.yaml")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        'error: bad.yaml:5:8: spec.tol: unknown field (did you mean "tool"?)',
        "error: bad.yaml:7:1: apiVersion: expected corral.dev/v1alpha1, found nothing",
        (
            'error: bad.yaml:7:7: kind: expected one of AgentTask, Tool, SandboxPool, found "Task" '
            '(did you mean "AgentTask"?)'
        ),
    ]


def test_a_chain_shows_its_last_result_and_its_steps(corral: Corral) -> None:
    corral.write("chain.yaml", CHAIN)

    ended = corral("run", "-f", "chain.yaml")

    assert (ended.status, ended.out) == (0, "working\n42\n")
    assert [line.split()[:4] for line in ended.err.splitlines()] == [
        ["STEP", "TOOL", "PHASE", "REASON"],
        ["numbers", "python", "Succeeded", "Completed"],
        ["total", "calculator", "Succeeded", "Completed"],
    ]


def test_files_of_many_tasks_come_back_side_by_side(corral: Corral, tmp_path: Path) -> None:
    make = TASK.replace("arguments: %s}", "arguments: {command: echo %s > made}, outputs: [made]}")
    corral.write("tasks.yaml", "---".join(make % (name, "shell", name) for name in ("a", "b")))

    ended = corral("run", "-f", "tasks.yaml", "--output-dir", "back")

    assert ended.status == 0
    assert [(tmp_path / "back" / name / "made").read_text() for name in ("a", "b")] == ["a\n", "b\n"]


def test_many_tasks_on_a_terminal_have_a_bar_and_then_a_table(
    corral: Corral, on_terminal: Callable[..., Terminal]
) -> None:
    corral.write("tasks.yaml", "---".join([task("good", "1"), task("bad", "1 / 0")]))

    terminal = on_terminal("run", "-f", "tasks.yaml")

    assert terminal.end() == 1
    assert "2/2" in terminal.plain
    assert "bad: ToolError" in terminal.plain
    assert "\x1b[?25l" in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    table = terminal.plain[terminal.plain.index("NAME  TOOL") :].splitlines()
    assert [line.split()[:4] for line in table[1:3]] == [
        ["good", "python", "Succeeded", "Completed"],
        ["bad", "python", "Failed", "ToolError"],
    ]
    assert max(len(line) for line in table[:3]) <= 100


def test_steps_are_announced_on_a_terminal(corral: Corral, on_terminal: Callable[..., Terminal]) -> None:
    corral.write("chain.yaml", CHAIN)

    terminal = on_terminal("run", "-f", "chain.yaml")

    assert terminal.end() == 0
    assert terminal.plain.startswith("── numbers\nworking\n42\nSTEP")
