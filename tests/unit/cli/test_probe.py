"""Machines judged from what they say of themselves, and the report that a person reads."""

import io
import json
from pathlib import Path

import pytest

from corral.api import Denial, ExecutionError, ExecutionStatus, Reason
from corral.cli.diagnosis import show_report
from corral.cli.exits import Exit
from corral.cli.formats import Format
from corral.cli.terminal import Stream, Terminal
from corral.sandbox.probe import Check, Report, State
from corral.sandbox.probe.machine import (
    check_cgroup,
    check_kernel,
    check_landlock,
    check_process_count,
    check_resources,
    check_user_namespaces,
    nesting_remedy,
)
from corral.sandbox.probe.trial import (
    LAYERS,
    Trial,
    bubblewrap_remedy,
    check_cells,
    check_sandbox,
    check_seccomp,
)


@pytest.mark.parametrize(
    ("release", "machine", "state"),
    [
        ("6.18.44-fc-v669", "x86_64", State.OK),
        ("5.6.0", "aarch64", State.OK),
        ("5.5.19-generic", "x86_64", State.MISSING),
        ("4.18.0-553.el8", "x86_64", State.MISSING),
        ("6.1.0", "riscv64", State.MISSING),
        ("unreadable", "x86_64", State.MISSING),
    ],
)
def test_the_kernel_must_know_openat2_and_the_machine_the_filter(
    release: str, machine: str, state: State
) -> None:
    assert check_kernel(release, machine).state is state


def test_processes_are_counted_per_namespace_since_5_14() -> None:
    assert check_process_count("5.14.0").state is State.OK
    assert check_process_count("5.13.9").state is State.WEAKER


def test_a_debian_that_closed_user_namespaces_is_told_how_to_open_them() -> None:
    sysctls = {"kernel.unprivileged_userns_clone": 0, "user.max_user_namespaces": 15000}

    (check,) = check_user_namespaces(sysctls, starts=False, bwrap="/bwrap")

    assert check.state is State.MISSING
    assert check.remedy == (
        "echo kernel.unprivileged_userns_clone=1 | sudo tee -a /etc/sysctl.d/60-corral.conf\nsudo sysctl --system"
    )


def test_a_machine_hardened_to_no_user_namespaces_is_told_so() -> None:
    (check,) = check_user_namespaces({"user.max_user_namespaces": 0}, starts=False, bwrap="/bwrap")

    assert (check.state, check.found) == (State.MISSING, "user.max_user_namespaces = 0")
    assert "user.max_user_namespaces=15000" in check.remedy


def test_a_kernel_without_user_namespaces_is_told_from_one_that_has_no_settings() -> None:
    (without,) = check_user_namespaces({}, starts=False, bwrap="/bwrap")
    (works,) = check_user_namespaces({}, starts=True, bwrap="/bwrap")

    assert (without.state, works.state) == (State.MISSING, State.OK)


def test_an_ubuntu_gets_a_profile_for_the_bubblewrap_that_is_used() -> None:
    sysctls = {"user.max_user_namespaces": 15000, "kernel.apparmor_restrict_unprivileged_userns": 1}

    settings, apparmor = check_user_namespaces(sysctls, starts=False, bwrap="/home/me/my venv/bwrap")

    assert (settings.state, apparmor.state) == (State.OK, State.MISSING)
    assert apparmor.remedy.splitlines() == [
        (
            "printf '%s\\n' 'abi <abi/4.0>,' 'include <tunables/global>' "
            "'profile corral \"/home/me/my venv/bwrap\" flags=(unconfined) {' userns, '}' "
            "| sudo tee /etc/apparmor.d/corral"
        ),
        "sudo apparmor_parser -r /etc/apparmor.d/corral",
        "or, for every program of this machine:",
        "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee -a /etc/sysctl.d/60-corral.conf",
        "sudo sysctl --system",
    ]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconfined"),
        ("bwrap: unshare user ns: No space left on device", "user.max_user_namespaces=15000"),
        ("bwrap: No permissions to create new namespace", "seccomp=unconfined"),
        ("exit status 1", "seccomp=unconfined"),
    ],
)
def test_what_bubblewrap_says_has_a_remedy(said: str, remedy: str) -> None:
    assert remedy in bubblewrap_remedy(said)


def test_an_ubuntu_that_has_the_profile_is_fine() -> None:
    sysctls = {"user.max_user_namespaces": 15000, "kernel.apparmor_restrict_unprivileged_userns": 1}

    assert [check.state for check in check_user_namespaces(sysctls, starts=True, bwrap="/bwrap")] == [
        State.OK,
        State.OK,
    ]


@pytest.mark.parametrize(
    ("abi", "state", "lacking"),
    [
        (0, State.WEAKER, "held by mounts alone"),
        (1, State.WEAKER, "EXDEV"),
        (2, State.WEAKER, "truncating"),
        (4, State.WEAKER, "ioctl"),
        (5, State.WEAKER, "signals and abstract sockets"),
        (6, State.OK, ""),
        (9, State.OK, ""),
    ],
)
def test_each_landlock_version_says_what_it_lacks(abi: int, state: State, lacking: str) -> None:
    check = check_landlock(abi)

    assert check.state is state
    assert lacking in check.consequence
    assert bool(check.remedy) is (state is State.WEAKER)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("0::/user.slice\n", "version 2; not delegated"),
        ("4:memory:/a\n0::/\n", "version 1; not delegated"),
        ("1:name=systemd:/\n0::/user.slice\n", "version 2; not delegated"),
        ("", "version 1; not delegated"),
    ],
)
def test_cgroups_are_told_apart(tmp_path: Path, lines: str, found: str) -> None:
    (tmp_path / "cgroup").write_text(lines)

    assert check_cgroup(tmp_path / "cgroup", tmp_path / "none").found == found


def test_a_delegated_cgroup_is_one_that_this_user_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "cgroup").write_text("0::/mine\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cgroup.procs").write_text("")
    (tmp_path / "mine/cgroup.controllers").write_text("cpu memory pids\n")

    assert check_cgroup(tmp_path / "cgroup", tmp_path).found == "version 2; delegated, with cpu, memory, pids"


def test_little_memory_is_told() -> None:
    assert check_resources(8 << 30, 2) == Check("memory and CPU", State.OK, "8.0 GiB free, 2 cores")
    assert check_resources(256 << 20, 1).state is State.WEAKER


def ran(**fields: object) -> ExecutionStatus:
    return ExecutionStatus.model_validate(
        {"name": "probe", "tool": "probe", "reason": "Completed", **fields}, by_name=True
    )


def test_a_tool_that_ran_behind_every_layer_is_all_well() -> None:
    trial = Trial(ran(result=13, denials=[Denial(syscall="socket")]), LAYERS, 0.05)

    assert (check_sandbox(trial).state, check_seccomp(trial).state) == (State.OK, State.OK)


def test_a_layer_that_did_not_hold_is_named() -> None:
    trial = Trial(ran(result=13), tuple(layer for layer in LAYERS if layer != "landlock"), 0.05)

    assert check_sandbox(trial).consequence == "without landlock"
    assert check_seccomp(trial).found == "refuses system calls, and cannot say which"


def test_a_socket_that_was_not_refused_is_seen() -> None:
    assert check_seccomp(Trial(ran(), LAYERS)).found == "does not refuse system calls"


def test_a_tool_that_did_not_run_is_missing_with_the_reason() -> None:
    failed = ran(reason=Reason.SANDBOX_FAILED, message="broke", error=ExecutionError(type="TypeError"))

    assert check_sandbox(Trial(failed)).found == "no tool ran: SandboxFailed: broke (TypeError)"
    assert check_sandbox(Trial(None, missing="no bubblewrap", remedy="Install it")).remedy == "Install it"


def test_a_machine_without_cells_is_weaker_and_told_what_to_allow() -> None:
    confined = nesting_remedy({"kernel.apparmor_restrict_unprivileged_userns": 1}, "/bwrap")
    check = check_cells(Trial(None, missing="Operation not permitted"), confined)

    assert check_cells(Trial(ran()), confined).state is State.OK
    assert (check.state, check.found) == (State.WEAKER, "not made: Operation not permitted")
    assert 'profile corral "/bwrap" flags=(unconfined) {' in check.remedy
    assert "user.max_user_namespaces" in nesting_remedy({}, "/bwrap")


GOOD = Report(usable=True, isolation=("userns", "seccomp"), checks=(Check("kernel", State.OK, "Linux 6.12"),))
BAD = Report(
    usable=False,
    isolation=(),
    checks=(
        *GOOD.checks,
        Check("bubblewrap", State.MISSING, "not \x1b[2J found", "nothing can run", "Install it:\nmake setup"),
        Check("Landlock", State.WEAKER, "none"),
    ),
)


def shown(report: Report, style: Format = Format.TABLE, *, brief: bool = False) -> tuple[Exit, str]:
    out = io.StringIO()
    status = show_report(report, Terminal(Stream(out), Stream(io.StringIO())), style, brief=brief)
    return status, out.getvalue()


def test_the_report_says_what_is_missing_and_what_to_do() -> None:
    status, text = shown(BAD)

    assert status is Exit.NO_ISOLATION
    assert text == (
        "ok       kernel      Linux 6.12\n"
        "missing  bubblewrap  not ␛[2J found\n"
        "                     nothing can run\n"
        "                     remedy: Install it:\n"
        "                       make setup\n"
        "weaker   Landlock    none\n"
        "\n"
        "Tasks cannot run on this machine, and none will run without a sandbox.\n"
    )


def test_brief_is_one_or_two_lines() -> None:
    assert len(shown(GOOD, brief=True)[1].splitlines()) == 1
    assert shown(GOOD, brief=True)[1].endswith("each call runs behind userns, seccomp\n")
    assert len(shown(BAD, brief=True)[1].splitlines()) == 2
    weaker = Report(usable=True, isolation=("userns",), checks=(Check("Landlock", State.WEAKER, "none"),))
    assert shown(weaker, brief=True)[1].splitlines()[1] == (
        "weaker than it could be: Landlock (corral doctor tells more)"
    )


def test_programs_get_the_report_as_data() -> None:
    status, text = shown(GOOD, Format.JSON)

    assert status is Exit.SUCCEEDED
    assert json.loads(text) == {
        "usable": True,
        "isolation": ["userns", "seccomp"],
        "checks": [{"name": "kernel", "state": "ok", "found": "Linux 6.12", "consequence": "", "remedy": ""}],
    }
