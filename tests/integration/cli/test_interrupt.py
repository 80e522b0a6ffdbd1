"""Ctrl-C and its like: in good order the first time, at once the second, and nothing stays."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eventually import eventually
from integration.cli.harness import Corral, Terminal, is_running
from integration.sandbox.hosts_view import parent_of, with_marker

if TYPE_CHECKING:
    import subprocess

#: A tool that does not want to end: only the sandbox's own means end it.
STUBBORN = "trap '' TERM INT; echo started; sleep %s & while :; do wait; done"


@pytest.fixture(autouse=True)
def hangups_count() -> Iterator[None]:
    """Whoever runs the tests with nohup hands on to all programs that they ignore SIGHUP, as Corral then should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def until_started(process: "subprocess.Popen[str]", mark: str) -> None:
    eventually(lambda: is_running(mark) or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def test_ctrl_c_keeps_what_was_printed_and_leaves_nothing(
    on_terminal: Callable[..., Terminal], mark: str
) -> None:
    terminal = on_terminal("run", "shell", f"command=echo started; sleep {mark}")
    terminal.wait_for("started")

    terminal.press(b"\x03")

    assert terminal.end() == 130
    assert terminal.plain == (
        "started\n"
        "^C\n"
        "note: cancelling; Ctrl-C once more ends everything at once\n"
        "cancelled: the task was cancelled\n"
    )
    assert not is_running(mark)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_task_is_cancelled_with_its_output_so_far(
    corral: Corral, mark: str, number: signal.Signals, status: int
) -> None:
    process = corral.start("run", "shell", f"command=echo started; sleep {mark}", "-o", "json")
    until_started(process, mark)

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    task = json.loads(out)["status"]
    assert process.returncode == status
    assert (task["phase"], task["reason"]) == ("Cancelled", "Cancelled")
    assert task["executions"][0]["output"]["stdout"] == "started\n"
    assert err == "note: cancelling; Ctrl-C once more ends everything at once\n"
    assert not is_running(mark)


@contextmanager
def stopped_runner_of(mark: str) -> Iterator[None]:
    """Stop the first process of the sandbox in which a tool sleeps, so that meanwhile nothing there is ended."""
    (pid,) = with_marker(f"sleep\0{mark}\0")
    while not re.search(r"^NSpid:.*\t1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
        pid = parent_of(pid)
    runner = os.pidfd_open(pid)
    signal.pidfd_send_signal(runner, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(runner, signal.SIGCONT)
        os.close(runner)


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing(corral: Corral, mark: str) -> None:
    process = corral.start("run", "shell", f"command={STUBBORN % mark}", "-o", "json")
    until_started(process, mark)
    assert process.stderr is not None

    # Else the task would have ended half a second after the first signal, which may be before the second.
    with stopped_runner_of(mark):
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("note: cancelling")
        process.send_signal(signal.SIGINT)
        out, _err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == ""  # it did not wait for the task's end
    eventually(lambda: is_running(mark), lambda running: not running)


def test_a_killed_corral_leaves_nothing(corral: Corral, mark: str) -> None:
    process = corral.start("run", "shell", f"command={STUBBORN % mark}")
    until_started(process, mark)

    process.kill()
    process.communicate(timeout=60)

    eventually(lambda: is_running(mark), lambda running: not running)


def test_many_tasks_are_cancelled_and_those_that_had_ended_keep_their_results(
    corral: Corral, mark: str
) -> None:
    task = (
        "apiVersion: corral.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: %s}\n"
        "spec: {tool: shell, arguments: {command: '%s'}}\n"
    )
    commands = {"quick": "echo done", "slow": f"sleep {mark}", "later": "echo never"}
    corral.write("tasks.yaml", "---\n".join(task % item for item in commands.items()))
    process = corral.start("run", "-f", "tasks.yaml", "--parallel", "1")
    until_started(process, mark)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["quick", "shell", "Succeeded", "Completed"],
        ["slow", "shell", "Cancelled", "Cancelled"],
        ["later", "shell", "Cancelled", "Cancelled"],
    ]
    assert "failed:" not in err
    assert not is_running(mark)


def test_the_cursor_comes_back_when_a_bar_is_ended_at_once(
    corral: Corral, on_terminal: Callable[..., Terminal], mark: str
) -> None:
    task = (
        "apiVersion: corral.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: %s}\n"
        "spec:\n  tool: shell\n  arguments:\n    command: %s\n"
    )
    corral.write(
        "tasks.yaml", "---\n".join(task % (name, json.dumps(STUBBORN % mark)) for name in ("a", "b"))
    )
    terminal = on_terminal("run", "-f", "tasks.yaml", "--parallel", "2")
    eventually(lambda: terminal.read() and is_running(mark))

    terminal.press(b"\x03")
    terminal.wait_for("cancelling")
    terminal.press(b"\x03")

    assert terminal.end() == 130
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    eventually(lambda: is_running(mark), lambda running: not running)
