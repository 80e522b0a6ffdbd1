"""What this machine isolates, and what it would need for the rest.

What counts is tried for real: bubblewrap is started and a tool is run in a sandbox. The settings around it
are read to say why something does not work, and what to do about it.
"""

import asyncio
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from corral.sandbox.bubblewrap import Installation
from corral.sandbox.errors import IsolationUnavailableError
from corral.sandbox.probe.machine import (
    check_cgroup,
    check_kernel,
    check_landlock,
    check_process_count,
    check_resources,
    check_user_namespaces,
    nesting_remedy,
    read_sysctls,
)
from corral.sandbox.probe.report import Check, Report, State
from corral.sandbox.probe.trial import (
    Trial,
    check_cells,
    check_sandbox,
    check_seccomp,
    try_bubblewrap,
    try_cell,
    try_sandbox,
)

__all__ = ["Check", "Report", "State", "probe"]


def probe() -> Report:
    """Look at this machine. Takes about a tenth of a second; must not be called from a running event loop."""
    outer = try_bubblewrap()
    starts = outer.state is State.OK
    unmade = Trial(None, missing="bubblewrap does not start", remedy="See bubblewrap")
    trial = asyncio.run(try_sandbox()) if starts else unmade
    cell = asyncio.run(try_cell()) if trial.ran else unmade
    sysctls, bwrap = read_sysctls(), _bwrap_path()
    checks = (
        check_kernel(platform.release(), platform.machine()),
        *check_user_namespaces(sysctls, starts=starts, bwrap=bwrap),
        *_check_setpriv(),
        outer,
        check_sandbox(trial),
        *([check_cells(cell, nesting_remedy(sysctls, bwrap)), check_seccomp(trial)] if trial.ran else ()),
        check_landlock(_landlock_abi()),
        check_process_count(platform.release()),
        check_cgroup(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
        check_resources(_available_bytes(), len(os.sched_getaffinity(0))),
    )
    return Report(trial.ran, trial.isolation, checks)


def _check_setpriv() -> Iterator[Check]:
    if os.geteuid() != 0:
        return
    found = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        yield Check(
            "setpriv",
            State.MISSING,
            "not found",
            "root gives up its rights before a sandbox is made, and cannot without it",
            "Install util-linux, or run Corral as an ordinary user",
        )
    else:
        yield Check("setpriv", State.OK, f"{found}; sandboxes of root run as a user that nobody else is")


def _landlock_abi() -> int:
    try:
        from corral_runner import landlock
    except OSError:  # a machine that the runner does not know
        return 0
    return landlock.abi()


def _bwrap_path() -> str:
    try:
        return str(Installation.of_this_process().bwrap)
    except IsolationUnavailableError:
        return "/path/to/bwrap"


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
