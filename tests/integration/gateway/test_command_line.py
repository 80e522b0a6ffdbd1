"""``corral --gateway URL …``, as a person uses it: the same as on this machine, and what is only at a gateway."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral.api import Reason
from corral.cli.app import start
from corral.client.gateway import GatewayClient, GatewayError
from eventually import eventually
from integration.cli.harness import Corral, Ended, Terminal, start_on_terminal
from integration.gateway.serving import new_key, serving

SLEEPING = "echo begun; sleep 60"
ESCAPES = r"printf 'a\033[2Jb\033]0;t\007c\n'; printf 'e\033[31m\n' >&2"


class Remote:
    """``corral`` pointed at a gateway, as one caller."""

    def __init__(self, url: str, key: str, directory: Path) -> None:
        self.url = url
        self.key = key
        self.corral = Corral(directory)
        self.client = GatewayClient(url, api_key=key)

    @property
    def env(self) -> dict[str, str]:
        return {"CORRAL_API_KEY": self.key}

    def __call__(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
        """Run it in a pipe to its end."""
        return self.corral("--gateway", self.url, *arguments, stdin=stdin, env={**self.env, **(env or {})})

    def task(self, command: str = SLEEPING) -> tuple[str, str]:
        """Have a task made, and wait until it has printed something; return its id and its name."""
        made = self.client.submit("shell", command=command)
        uid = made.metadata.uid or ""
        eventually(lambda: list(self.client.logs(uid, follow=False)))
        return uid, made.metadata.name or ""

    @contextmanager
    def on_terminal(self, *arguments: str) -> Iterator[Terminal]:
        terminal = start_on_terminal(self.corral, "--gateway", self.url, *arguments, env=self.env)
        try:
            yield terminal
        finally:
            if terminal.process.poll() is None:
                terminal.process.send_signal(signal.SIGKILL)
                terminal.process.wait()
            os.close(terminal.master)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("gateway")
    with serving(directory) as (url, _, _):
        yield url, directory


@pytest.fixture
def remote(gateway: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Remote]:
    url, directory = gateway
    caller = re.sub(r"\W+", "-", str(request.node.name))[:60].strip("-_")
    remote = Remote(url, new_key(directory, caller), tmp_path)
    with remote.client:
        yield remote


@pytest.mark.parametrize(
    "arguments",
    [
        ("calculator", "expression=6 * 7"),
        ("shell", "command=echo out; echo err >&2; exit 3"),
        ("python", "code=print('no end', end='')"),
        ("shell", "command=cat; cat in.txt", "--file", "in.txt", "--limit", "timeout=10s"),
        ("calculator", "expresion=1"),
        ("python", "code=import time; time.sleep(9)", "--limit", "timeout=1s"),
    ],
    ids=lambda words: "-".join(re.findall(r"\w+", " ".join(words)))[:40],
)
def test_M13_a_tool_runs_at_a_gateway_with_the_same_output_and_status(
    remote: Remote, arguments: tuple[str, ...]
) -> None:
    remote.corral.write("in.txt", "from a file\n")
    assert remote("run", *arguments) == remote.corral("run", *arguments)


def test_M13_manifests_run_at_a_gateway_each_with_its_end(remote: Remote) -> None:
    remote.corral.write(
        "tasks.yaml",
        """\
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: good}
spec: {tool: calculator, arguments: {expression: 6 * 7}}
---
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: bad}
spec: {tool: shell, arguments: {command: exit 3}}
---
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata: {name: chained}
spec:
  steps:
    - {name: one, tool: calculator, arguments: {expression: 1 + 1}}
    - {name: two, tool: calculator, arguments: {expression: "$(steps.one.result) * 21"}}
""",
    )
    there, here = remote("run", "-f", "tasks.yaml"), remote.corral("run", "-f", "tasks.yaml")
    assert there.status == here.status == 1

    def told(table: str) -> list[list[str]]:
        return [
            [word for word in line.split() if not re.fullmatch(r"[\d.]+m?s", word)]
            for line in table.splitlines()
        ]

    assert told(there.out) == told(here.out)
    documents = json.loads(remote("run", "-f", "tasks.yaml", "-o", "json").out)
    reasons = [item["status"]["reason"] for item in documents["items"]]
    assert reasons == ["Completed", "ToolError", "Completed"]


def test_B15_files_come_back_from_a_gateway(remote: Remote) -> None:
    ended = remote(
        "run", "shell", "command=echo hi > out.txt", "--output-file", "*.txt", "--output-dir", "got"
    )
    assert ended.status == 0, ended.err
    assert (remote.corral.directory / "got/out.txt").read_text() == "hi\n"


def test_B15_a_large_file_goes_to_a_gateway_and_back(remote: Remote) -> None:
    (remote.corral.directory / "in.bin").write_bytes(bytes(range(256)) * 1024)
    words = ("--file", "in.bin=data/in.bin", "--output-file", "out.bin", "--output-dir", "got")
    ended = remote("run", "shell", "command=cp data/in.bin out.bin", *words)
    assert ended.status == 0, ended.err
    assert "wrote got/out.bin (256 KiB)" in ended.err
    assert (remote.corral.directory / "got/out.bin").read_bytes() == bytes(range(256)) * 1024


def test_M13_the_gateway_can_be_named_by_the_environment_and_the_key_by_a_file(remote: Remote) -> None:
    key_file = remote.corral.write("key", f"{remote.key}\n")
    named = {"CORRAL_GATEWAY": remote.url}
    ended = remote.corral("--api-key-file", key_file, "run", "calculator", "expression=1 + 1", env=named)
    assert (ended.status, ended.out) == (0, "2\n"), ended.err
    assert len(list(remote.client.tasks())) == 1
    for words in (("doctor", "--brief"), ("validate", "-f", key_file)):
        assert "gateway" not in remote.corral(*words, env=named).err


def test_M1_ctrl_c_cancels_the_task_at_the_gateway(remote: Remote) -> None:
    with remote.on_terminal("run", "shell", f"command={SLEEPING}") as terminal:
        terminal.wait_for("begun")
        terminal.press(b"\x03")
        assert terminal.end() == 130
        assert "cancelling" in terminal.plain
        assert "cancelled:" in terminal.plain
    (task,) = remote.client.tasks()
    assert task.reason is Reason.CANCELLED


def test_B8_logs_follow_a_task_and_end_as_it_does(remote: Remote) -> None:
    uid, name = remote.task("echo begun; echo problem >&2; sleep 0.5; echo done")
    assert remote("logs", "-f", name) == Ended(0, "begun\ndone\n", "problem\n")
    assert remote("logs", uid[:12]) == Ended(0, "begun\ndone\n", "problem\n")
    uid, _ = remote.task("echo begun; exit 3")
    ended = remote("logs", "-f", uid)
    assert (ended.status, ended.out) == (1, "begun\n")
    assert "ToolError" in ended.err
    assert remote("logs", uid) == Ended(0, "begun\n", "")


def test_B8_ctrl_c_ends_the_following_and_not_the_task(remote: Remote) -> None:
    uid, _ = remote.task()
    with remote.on_terminal("logs", "-f", uid) as terminal:
        terminal.wait_for("begun")
        terminal.press(b"\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.plain
    assert remote.client.get(uid).reason is None
    assert remote("tasks", "cancel", uid).out.endswith(": Cancelled\n")


def test_B15_what_ended_tasks_left_in_the_store_is_removed(remote: Remote) -> None:
    running, _ = remote.task()
    refused = remote("tasks", "remove-files", running)
    assert refused.status == 2
    assert "the task has not ended" in refused.err
    remote("tasks", "cancel", running)
    uid, _ = remote.task("seq 100000")
    remote.client.wait(uid)
    assert remote.client.output(uid, "stdout").endswith(b"100000\n")
    assert remote("tasks", "remove-files", uid, running) == Ended(0, "", "")
    with pytest.raises(GatewayError) as gone:
        remote.client.output(uid, "stdout")
    assert gone.value.reason == "ArtifactGone"


def test_B8_logs_of_a_task_that_runs_are_those_so_far(remote: Remote) -> None:
    uid, _ = remote.task()
    assert remote("logs", uid) == Ended(0, "begun\n", "")
    remote.client.cancel(uid)


@pytest.mark.parametrize("command", [("run", "shell", f"command={ESCAPES}"), ("logs",), ("tasks", "get")])
def test_what_a_tool_prints_is_shown_by_a_terminal_and_not_obeyed(
    remote: Remote, command: tuple[str, ...]
) -> None:
    if command[0] != "run":
        command = (*command, remote.client.run("shell", command=ESCAPES).metadata.uid or "")
    with remote.on_terminal(*command) as terminal:
        assert terminal.end() == 0
        assert "a␛[2Jb␛]0;t␇c" in terminal.plain
        assert "e␛[31m" in terminal.plain
        assert "\x1b[2J" not in terminal.text
        assert "\x1b]" not in terminal.text


def test_M5_tasks_are_listed_shown_and_ended(remote: Remote) -> None:
    assert remote("tasks") == Ended(0, "", "note: no tasks yet\n")
    remote.client.run("calculator", expression="6 * 7")
    uid, name = remote.task()
    lines = remote("tasks").out.splitlines()
    assert lines[0].split() == ["NAME", "TOOL", "PHASE", "REASON", "AGE", "TOOK", "ID"]
    assert [line.split()[1] for line in lines[1:]] == ["shell", "calculator"]
    assert uid in lines[1]
    assert len(remote("tasks", "list", "--tool", "calculator").out.splitlines()) == 2
    listed = json.loads(remote("tasks", "-o", "json", "--max", "1").out)["items"]
    assert [item["metadata"]["uid"] for item in listed] == [uid]
    ended = remote("tasks", "cancel", name, uid[:8])
    assert (ended.status, ended.out) == (0, f"{name}: Cancelled\n" * 2)
    shown = remote("tasks", "get", name).out
    assert f"id:       {uid}" in shown
    assert "Cancelled" in shown
    assert "begun" in shown
    assert json.loads(remote("tasks", "get", uid, "-o", "json").out)["status"]["reason"] == "Cancelled"


def test_M5_a_name_that_several_tasks_have_is_refused_with_their_ids(remote: Remote) -> None:
    manifest = {"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "twice"}}
    spec = {"tool": "calculator", "arguments": {"expression": "1"}}
    remote.corral.write("twice.json", json.dumps({**manifest, "spec": spec}))
    for _ in range(2):
        assert remote("run", "-f", "twice.json").status == 0
    ended = remote("tasks", "get", "twice")
    assert (ended.status, ended.out) == (2, "")
    assert all(str(task.metadata.uid) in ended.err for task in remote.client.tasks())


def test_M5_a_list_on_a_terminal_is_drawn_anew_while_it_is_watched(remote: Remote) -> None:
    remote.client.run("calculator", expression="6 * 7")
    with remote.on_terminal("tasks", "--watch") as terminal:
        terminal.wait_for("calculator")
        remote.client.run("shell", command="true")
        terminal.wait_for("shell")
        terminal.press(b"\x03")
        assert terminal.end() == 130


def test_M7_tools_are_those_of_the_gateway(remote: Remote) -> None:
    assert remote("tools", "sql") == remote.corral("tools", "sql")
    assert remote("tools", "show", "calculator") == remote.corral("tools", "show", "calculator")


def test_M5_whoami_tells_whose_key_it_is_and_what_it_may_do(remote: Remote) -> None:
    ended = remote("whoami")
    assert ended.status == 0, ended.err
    identity = remote.client.whoami()
    assert ended.out.startswith(f"{identity.name}  at {remote.url}\n  role:         runner\n")
    assert "tasks:run" in ended.out
    assert remote.key not in ended.out
    assert json.loads(remote("whoami", "-o", "json").out)["role"] == "runner"


_WRONG = {"CORRAL_API_KEY": "corral_000000000000_wrong"}


@pytest.mark.parametrize(
    ("words", "env", "status", "problem", "remedy"),
    [
        ("--gateway {url} tasks", {"CORRAL_API_KEY": ""}, 4, "is needed", "CORRAL_API_KEY"),
        ("--gateway {url} tasks", _WRONG, 4, "not valid", "CORRAL_API_KEY"),
        ("--gateway http://127.0.0.1:1 tasks", {}, 4, "cannot be reached", "corral serve"),
        ("--gateway localhost:8000 tasks", {}, 2, "no URL", "http://127.0.0.1:8000"),
        ("--gateway {url} tasks get nothing", {}, 2, "no task nothing", "corral tasks"),
        ("--gateway {url} run nothing", {}, 2, "no tool", "corral tools"),
        ("--gateway {url} logs nothing", {}, 2, "no task nothing", "corral tasks"),
        ("--gateway {url} tasks --phase Done", {}, 2, "phase", "Running"),
        ("--gateway {url} tools show calculater", {}, 2, 'did you mean "calculator"', "corral tools"),
        ("--gateway {url} doctor", {}, 2, "this machine", ""),
        ("--gateway {url} run shell command=ls --workspace .", {}, 2, "--workspace", "--file"),
        ("--gateway {url} run shell command=ls --backend docker", {}, 2, "--backend", "without --gateway"),
        ("--gateway {url} run shell command=ls --tools .", {}, 2, "--tools", "corral tools"),
        ("--gateway {url} tasks --watch", {}, 2, "terminal", "corral logs -f"),
        ("tasks", {}, 2, "none is named", "corral serve"),
        ("--api-key-file x doctor", {}, 2, "--gateway", ""),
        ("--gateway {url} --api-key-file x tasks", {}, 2, "No such file", ""),
    ],
)
def test_each_mistake_says_what_to_do(
    *,
    remote: Remote,
    words: str,
    env: dict[str, str],
    status: int,
    problem: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**remote.env, **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("corral.client.gateway.retrying._FIRST_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(sys, "argv", ["corral", *words.format(url=remote.url).split()])
    ended = start()
    told = capfd.readouterr()
    assert (ended, told.out) == (status, ""), told.err
    assert problem in told.err
    assert remedy in told.err
    assert remote.key not in told.err
