"""The Python API, as a program uses it."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

import corral
from corral.api import AgentTask, Frame, Output, Phase, Problem, Progress, Reason, Result, Tool
from corral.catalogue import Catalogue
from corral.client import AsyncClient, Client, DirectorySecrets, build_task
from corral.policy import Policy
from corral.sandbox.embedded import EmbeddedBackend


def test_M13_three_lines_are_enough() -> None:
    program = "import corral\ntask = corral.run('python', code='6 * 7')\nprint(task.result)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("42\n", "")


def test_a_failed_task_raises_nothing_and_says_why(client: Client) -> None:
    task = client.run("python", code="print('before')\n1 / 0")
    assert (task.succeeded, task.reason, task.stdout) == (False, Reason.TOOL_ERROR, "before\n")
    assert "ZeroDivisionError" in task.executions[0].output.stderr  # type: ignore[union-attr]


def test_wrong_options_raise_before_anything_starts(client: Client) -> None:
    with pytest.raises(ValidationError, match="memory"):
        client.run("python", code="1", limits={"memory": "lots"})


def test_wrong_arguments_start_no_sandbox(client: Client) -> None:
    task = client.run("calculator", expresion="1")
    assert task.reason is Reason.INVALID_ARGUMENTS
    assert task.status is not None
    assert task.status.start_time is None
    assert "expression" in (task.status.message or "")


def test_an_unknown_tool_is_refused_with_a_suggestion(client: Client) -> None:
    task = client.run("calculater", expression="1")
    assert task.reason is Reason.TOOL_NOT_FOUND
    assert 'did you mean "calculator"' in (task.status.message or "")  # type: ignore[union-attr]


def test_A7_what_the_policy_forbids_is_refused_by_rule() -> None:
    with Client(policy=Policy(allowlist=frozenset({"calculator"})), waiting=0) as client:
        assert client.run("calculator", expression="1 + 1").result == 2
        task = client.run("python", code="1")
    assert task.reason is Reason.PERMISSION_DENIED
    assert task.executions[0].error is not None
    assert task.executions[0].error.rule == "allowlist"


def test_B15_files_go_in_and_come_back(client: Client) -> None:
    task = client.run(
        "shell",
        command="cat in/a.txt b.bin > out.bin; mkdir deep; echo x > deep/y.txt",
        files={"in/a.txt": "text", "b.bin": b"\x00\xff"},
        outputs=["out.bin", "deep/**"],
    )
    assert task.reason is Reason.COMPLETED, task.status
    assert {file.path: file.data for file in task.executions[0].files} == {
        "out.bin": b"text\x00\xff",
        "deep/y.txt": b"x\n",
    }


def test_the_environment_of_the_caller_does_not_reach_the_tool(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("CORRAL_CANARY", "canary-7c1f")
    with Client(waiting=0) as fresh:
        for each in (client, fresh):
            task = each.run("shell", command="env; cat /proc/*/environ", env={"WANTED": "yes"})
            assert "WANTED=yes" in task.stdout
            assert "canary-7c1f" not in task.stdout


def test_secrets_come_from_files_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "password").write_text("s3cret\n")
    spec = {"tool": "shell", "arguments": {"command": "echo $PW"}}
    good = {**spec, "secretRefs": [{"name": "db", "key": "password", "env": "PW"}]}
    bad = {**spec, "secretRefs": [{"name": "db", "key": "user", "env": "PW"}]}
    with Client(secrets=DirectorySecrets(tmp_path), waiting=0) as client:
        tasks = [
            client.run_task(AgentTask.model_validate({"metadata": {"name": "s"}, "spec": spec}))
            for spec in (good, bad)
        ]
    assert [task.reason for task in tasks] == [Reason.COMPLETED, Reason.INVALID_SPEC]
    assert tasks[0].stdout == "s3cret\n"
    assert tasks[1].executions[0].error is not None
    assert tasks[1].executions[0].error.field == "spec.secretRefs"


@pytest.fixture
def own_directory(tmp_path: Path) -> Path:
    """A directory that an ordinary user owns, whoever runs the tests."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    return tmp_path


def test_a_directory_of_the_host_can_be_the_workspace(own_directory: Path, client: Client) -> None:
    (own_directory / "in.txt").write_text("from the host")
    task = client.run("shell", command="cat in.txt; echo done > out.txt", workspace=own_directory)
    assert (task.reason, task.stdout) == (Reason.COMPLETED, "from the host"), task.status
    assert (own_directory / "out.txt").read_text() == "done\n"


def test_a_read_only_workspace_stays_as_it_is(own_directory: Path, client: Client) -> None:
    spec = {
        "tool": "shell",
        "arguments": {"command": "echo x > out.txt"},
        "workspace": {"hostPath": str(own_directory), "readOnly": True},
    }
    task = client.run_task(AgentTask.model_validate({"metadata": {"name": "ro"}, "spec": spec}))
    assert task.reason is Reason.TOOL_ERROR
    assert list(own_directory.iterdir()) == []


def test_two_threads_share_a_client(client: Client) -> None:
    results: list[object] = []

    def work(number: int) -> None:
        results.append(client.run("calculator", expression=f"{number} * 2").result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 2, 4, 6, 8, 10, 12, 14]  # type: ignore[type-var]


async def test_many_tasks_at_once_each_get_their_own_result() -> None:
    async with AsyncClient(waiting=4) as client:
        tasks = await asyncio.gather(*(client.run("calculator", expression=f"{n} ** 2") for n in range(50)))
    assert [task.result for task in tasks] == [n**2 for n in range(50)]


async def test_B8_frames_are_heard_as_they_come_and_cancel_keeps_the_output() -> None:
    heard: list[Frame] = []
    cancel = asyncio.Event()

    def hear(_name: str, frame: Frame) -> None:
        heard.append(frame)
        if isinstance(frame, Output):
            cancel.set()

    async with AsyncClient(waiting=0) as client:
        task = await client.run_task(
            build_task("shell", {"command": "echo first; sleep 60; echo second"}),
            on_frame=hear,
            cancel=cancel,
        )
    assert task.reason is Reason.CANCELLED
    assert task.status is not None
    assert (task.status.phase, task.stdout) == (Phase.CANCELLED, "first\n")
    assert isinstance(heard[-1], Result)


async def test_progress_reaches_the_listener() -> None:
    """A tool that reports progress is a function with a context; the python tool's code has none, so plot does."""
    heard: list[str] = []
    async with AsyncClient(waiting=0) as client:
        task = await client.run_task(
            build_task(
                "archive", {"action": "create", "path": "a.zip", "files": ["a.txt"]}, files={"a.txt": "x"}
            ),
            on_frame=lambda _name, frame: heard.append(type(frame).__name__),
        )
    assert task.succeeded, task.status
    assert heard[:2] == ["Ready", "Started"]
    assert set(heard) <= {"Ready", "Started", Progress.__name__, "Output", "Result"}


async def test_S6_what_runs_is_the_version_of_a_tool_that_its_arguments_were_held_against() -> None:
    """Arguments that others' schemas are held against take a while; the tool may be replaced in it, or taken out."""

    def version(number: int) -> Tool:
        run = {"function": {"code": f"def main():\n    return {number}"}}
        spec = {"description": "Tell versions apart.", "inputSchema": {"type": "object"}, "run": run}
        return Tool.model_validate({"metadata": {"name": "mine"}, "spec": spec})

    catalogue, seen = Catalogue(), []
    async with AsyncClient(catalogue=catalogue, waiting=0) as client:

        async def check(tool: Tool, _arguments: Mapping[str, object]) -> Sequence[Problem]:
            seen.append(tool)
            if len(seen) == 1:
                catalogue.register(version(2), replace=True)
            return [Problem("arguments", "the first never fits")] if len(seen) == 1 else []

        catalogue.register(version(1))
        task = await client.run_task(build_task("mine", {}), check=check)
        assert (task.result, seen) == (2, [version(1), version(2)])

        async def take_out(_tool: Tool, _arguments: Mapping[str, object]) -> Sequence[Problem]:
            catalogue.unregister("mine")
            return []

        task = await client.run_task(build_task("mine", {}), check=take_out)
        assert task.reason is Reason.TOOL_NOT_FOUND


async def test_B4_a_task_whose_tool_is_replaced_without_end_can_be_ended() -> None:
    run = {"function": {"code": "def main():\n    return 1"}}
    catalogue, cancel = Catalogue(), asyncio.Event()

    def replace() -> None:
        spec = {"description": "Never the same.", "run": run}
        tool = Tool.model_validate({"metadata": {"name": "mine"}, "spec": spec})
        catalogue.register(tool, replace=True)

    async def check(_tool: Tool, _arguments: Mapping[str, object]) -> Sequence[Problem]:
        replace()
        await asyncio.sleep(0.01)
        cancel.set()
        return []

    replace()
    async with AsyncClient(catalogue=catalogue, waiting=0) as client:
        task = await client.run_task(build_task("mine", {}), check=check, cancel=cancel)
    assert task.reason is Reason.CANCELLED


async def test_the_task_deadline_spans_all_of_it() -> None:
    spec = {
        "steps": [
            {"name": "quick", "tool": "calculator", "arguments": {"expression": "1"}},
            {"name": "slow", "tool": "shell", "arguments": {"command": "echo on; sleep 60"}},
            {"name": "never", "tool": "calculator", "arguments": {"expression": "2"}},
        ],
        "activeDeadlineSeconds": 2,
    }
    # Sandboxes that are ready: on a slow machine a whole deadline would be over before a cold one is.
    async with EmbeddedBackend(waiting=2) as backend, AsyncClient(backend=backend) as client:
        await backend.warm_up()
        task = await client.run_task(AgentTask.model_validate({"metadata": {"name": "d"}, "spec": spec}))
    assert task.reason is Reason.DEADLINE_EXCEEDED
    assert [(e.name, e.reason) for e in task.executions] == [
        ("quick", Reason.COMPLETED),
        ("slow", Reason.DEADLINE_EXCEEDED),
    ]
    assert task.executions[1].output.stdout == "on\n"  # type: ignore[union-attr]


async def test_D3_a_chain_passes_results_on_and_stops_at_a_failure() -> None:
    spec = {
        "steps": [
            {"name": "one", "tool": "python", "arguments": {"code": "[1, 2, {'x': 'y'}]"}},
            {
                "name": "two",
                "tool": "python",
                "arguments": {"code": "import json; json.loads('''$(steps.one.result)''')[2]"},
            },
            {"name": "three", "tool": "shell", "arguments": {"command": "exit 7"}},
            {"name": "four", "tool": "calculator", "arguments": {"expression": "1"}},
        ]
    }
    async with AsyncClient(waiting=1) as client:
        task = await client.run_task(AgentTask.model_validate({"metadata": {"name": "c"}, "spec": spec}))
    assert task.reason is Reason.STEP_FAILED
    assert [(e.name, e.reason, e.exit_code) for e in task.executions] == [
        ("one", Reason.COMPLETED, 0),
        ("two", Reason.COMPLETED, 0),
        ("three", Reason.TOOL_ERROR, 7),
    ]
    assert task.executions[1].result == {"x": "y"}


def test_network_and_agents_are_refused_with_a_reason_of_their_own(client: Client) -> None:
    network = {
        "tool": "python",
        "arguments": {"code": "1"},
        "network": {"mode": "allowlist", "allowedDomains": ["a.example"]},
    }
    agent = {"agent": {"prompt": "hello"}}
    tasks = [
        client.run_task(AgentTask.model_validate({"metadata": {"name": "n"}, "spec": spec}))
        for spec in (network, agent)
    ]
    assert [task.reason for task in tasks] == [Reason.UNSUPPORTED, Reason.UNSUPPORTED]
    assert all(task.status is not None and task.status.start_time is None for task in tasks)


def test_B9_usage_is_measured(client: Client) -> None:
    task = client.run(
        "python",
        code="data = bytearray(30_000_000)\nopen('f', 'wb').write(data)\nprint('x' * 10)\nsum(range(10**6))",
    )
    usage = task.executions[0].usage
    assert usage is not None
    assert usage.cpu_seconds is not None
    assert 0 < usage.cpu_seconds < 60
    assert usage.peak_memory_bytes is not None
    assert usage.peak_memory_bytes > 30_000_000
    assert usage.output_bytes == 11
    assert usage.written_bytes is None or usage.written_bytes >= 30_000_000


def test_corral_run_is_the_same_client_each_time() -> None:
    assert corral.run("calculator", expression="1 + 1").result == 2
    assert corral.run("calculator", {"expression": "2 + 2"}).result == 4


def test_a_shell_that_starts_pipelines_is_not_disturbed_by_the_runner(client: Client) -> None:
    """A child's end is told while the next is forked; a call that waits for the runner then would say EINTR."""
    command = (
        "for i in $(seq 30); do true | /bin/true | /bin/true; /bin/true & done; wait; seq 3 | paste -sd+"
    )
    task = client.run("shell", command=command)
    assert (task.reason, task.stdout) == (Reason.COMPLETED, "1+2+3\n"), task.executions[0].output
    assert task.result == "1+2+3\n"
