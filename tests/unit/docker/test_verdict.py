"""Why a program without the runner ended, and what it cannot be given."""

from dataclasses import replace
from typing import Any

import pytest

from corral.sandbox.docker.engine import read_machine
from corral.sandbox.docker.verdict import Ended, result, unsupported
from corral.sandbox.errors import IsolationUnavailableError
from sandboxes import request, shell

ENDED = Ended(None, 0, False, b"out\n", 1.5, 4, False)


@pytest.mark.parametrize(
    ("changes", "reason", "limit"),
    [
        ({}, "Completed", None),
        ({"exit_code": 3}, "ToolError", None),
        ({"exit_code": 139}, "ToolError", None),
        ({"exit_code": 137, "oom_killed": True}, "OutOfMemory", "cgroup"),
        ({"exit_code": 152}, "CPULimit", "RLIMIT_CPU"),
        ({"exit_code": 153}, "FileSizeLimit", "RLIMIT_FSIZE"),
        ({"stop": "DeadlineExceeded", "exit_code": 137}, "DeadlineExceeded", "backend's clock"),
        ({"stop": "OutputLimit", "exit_code": 137}, "OutputLimit", "backend's count"),
        ({"stop": "Cancelled", "exit_code": 137}, "Cancelled", None),
    ],
)
def test_M2_each_end_has_its_reason(changes: dict[str, Any], reason: str, limit: str | None) -> None:
    found = result(request(shell("x")), replace(ENDED, **changes))
    assert (found["reason"], found["limit"] and found["limit"]["enforcedBy"]) == (reason, limit)


def test_an_end_by_a_signal_is_told_as_one() -> None:
    found = result(request(shell("x")), replace(ENDED, exit_code=139))
    assert (found["exitCode"], found["signal"]) == (None, 11)


def test_json_output_is_the_result_and_what_is_none_is_the_tool_s_error() -> None:
    what = request(shell("x", resultFormat="json"))
    assert result(what, replace(ENDED, stdout=b'{"a": 1}'))["result"] == {"a": 1}
    assert result(what, replace(ENDED, stdout=b"NaN"))["reason"] == "ToolError"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"outputs": ("*",)}, "spec.outputs"),
        ({"allowed_paths": ("in",)}, "allowedPaths"),
        ({"permissions": ("read",)}, "spec.permissions"),
        ({"network": "open"}, "spec.network"),
    ],
)
def test_what_needs_the_runner_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    refusal = unsupported(request(shell("x"), **changes), half_closes=True)
    assert refusal is not None
    assert refusal.startswith(named)


def test_what_does_not_need_it_is_not_refused() -> None:
    assert unsupported(request(shell("x", stdin="in")), half_closes=True) is None
    assert unsupported(request({"builtin": "python"}), half_closes=True) is not None
    assert unsupported(request(shell("x", stdin="in")), half_closes=False) is not None


def test_a_daemon_is_taken_at_its_word() -> None:
    info = {
        "OSType": "linux",
        "ServerVersion": "28.1",
        "NCPU": 8,
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    }
    machine = read_machine(info, "unix:///run/docker.sock")
    assert (machine.cores, machine.local, machine.remapped_users, machine.weakened) == (8, True, False, ())
    unconfined = {**info, "SecurityOptions": ["name=seccomp,profile=unconfined", "name=userns"]}
    machine = read_machine(unconfined, "tcp://far:2376")
    assert (machine.local, machine.remapped_users, machine.weakened) == (False, True, ("outer-seccomp",))


@pytest.mark.parametrize("info", [{"OSType": "windows"}, {"OSType": "linux", "MemoryLimit": False}, {}])
def test_a_daemon_that_cannot_limit_is_refused(info: dict[str, Any]) -> None:
    with pytest.raises(IsolationUnavailableError):
        read_machine(info, "unix:///x")
