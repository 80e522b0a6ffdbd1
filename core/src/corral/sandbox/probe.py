"""What this machine isolates, and what it would need for the rest.

What counts is tried for real: bubblewrap is started and a tool is run in a sandbox. The settings around it are read
to say why something does not work, and what to do about it.
"""

import asyncio
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from corral.api import DEFAULT_LIMITS, ExecutionStatus, Reason, ResolvedLimits
from corral.sandbox.bubblewrap import Installation, Launch, command
from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.errors import IsolationUnavailableError, SandboxError
from corral.sandbox.execution import Record, execute
from corral.sandbox.port import ExecutionRequest, Owner, SandboxNeeds
from corral.sandbox.profile import DEFAULT_PROFILE

#: Every layer that a sandbox can report (docs/runner-protocol.md, ``ready``).
LAYERS = (
    "userns",
    "pidns",
    "mountns",
    "netns",
    "ipcns",
    "utsns",
    "cgroupns",
    "rlimits",
    "seccomp",
    "landlock",
)
#: openat2(2), by which files are copied in and out, came with Linux 5.6.
_OLDEST_KERNEL = (5, 6)
#: Processes are counted per user and user namespace since "Reimplement RLIMIT_NPROC on top of ucounts"
#: (torvalds/linux 21d1c5e386bc, Linux 5.14); before, per user on the whole machine.
_COUNTS_PER_NAMESPACE = (5, 14)
_MACHINES = ("x86_64", "aarch64")
#: Enough for a nursery, its cell and the tool on any machine that is not stuck.
_PATIENCE_SECONDS = 30

# What each version of Landlock's ABI adds, as far as sandboxes use it, and what a sandbox does without it
# (Documentation/userspace-api/landlock.rst, "Previous limitations"). Version 4 adds TCP ports, which no sandbox
# has anyway; 7 and 8 add audit records and thread synchronisation.
_LANDLOCK = (
    (2, "5.19", "moving or linking a file from one directory to another fails with EXDEV"),
    (3, "6.2", "truncating a file is not held to the paths that a tool may write"),
    (5, "6.10", "requests to devices (ioctl) are not held to the devices that a tool may use"),
    (6, "6.12", "signals and abstract sockets are held by the pid and network namespaces alone"),
)

#: A tool of two lines that asks for what no tool may have. The refusal must come back with the result.
_TOOL = """
import socket

def main():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno
"""


class State(StrEnum):
    """How much of it there is."""

    OK = "ok"
    WEAKER = "weaker"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    #: What is there.
    found: str
    #: What follows from it for sandboxes; empty where nothing needs to be said.
    consequence: str = ""
    #: What to do about it; may have several lines.
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    #: A tool ran in a sandbox.
    usable: bool
    #: The layers that held while it ran.
    isolation: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def missing(self) -> tuple[Check, ...]:
        """What keeps tasks from running."""
        return tuple(check for check in self.checks if check.state is State.MISSING)

    @property
    def weaker(self) -> tuple[Check, ...]:
        """What isolates less than it could."""
        return tuple(check for check in self.checks if check.state is State.WEAKER)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the attempt to run a tool."""

    status: ExecutionStatus | None
    isolation: tuple[str, ...] = ()
    seconds: float = 0.0
    #: Why there is no status, and what to do about it.
    missing: str = ""
    remedy: str = ""


def probe() -> Report:
    """Look at this machine. Takes about a tenth of a second; must not be called from a running event loop."""
    outer = _try_bubblewrap()
    trial = (
        asyncio.run(_try_tool())
        if outer.state is State.OK
        else Trial(None, missing="bubblewrap does not start")
    )
    checks = (
        check_kernel(platform.release(), platform.machine()),
        *check_user_namespaces(read_sysctls(), starts=outer.state is State.OK, bwrap=_bwrap_path()),
        *_check_setpriv(),
        outer,
        check_cells(trial),
        check_seccomp(trial),
        check_landlock(_landlock_abi()),
        check_process_count(platform.release()),
        check_cgroup(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
        check_resources(_available_bytes(), len(os.sched_getaffinity(0))),
    )
    return Report(trial.status is not None and trial.status.succeeded, trial.isolation, checks)


# --- the kernel and its settings ---


def check_kernel(release: str, machine: str) -> Check:
    """Judge the kernel's version and the machine's kind."""
    found = f"Linux {release} on {machine}"
    if machine not in _MACHINES:
        return Check(
            "kernel",
            State.MISSING,
            found,
            "the system call filter is written for x86_64 and aarch64",
            "Run Corral on such a machine",
        )
    if _version(release) < _OLDEST_KERNEL:
        return Check(
            "kernel",
            State.MISSING,
            found,
            "sandboxes need system calls of Linux 5.6 (openat2)",
            "Install a kernel of 5.14 or newer; 6.12 or newer has every layer",
        )
    return Check("kernel", State.OK, found)


def read_sysctls() -> dict[str, int]:
    """Return the settings that decide on user namespaces, as far as this kernel has them."""
    settings = {}
    for name in (
        "kernel.unprivileged_userns_clone",
        "user.max_user_namespaces",
        "kernel.apparmor_restrict_unprivileged_userns",
    ):
        try:
            settings[name] = int(Path("/proc/sys", *name.split(".")).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return settings


def check_user_namespaces(sysctls: Mapping[str, int], *, starts: bool, bwrap: str) -> Iterator[Check]:
    """Judge whether the settings let an ordinary user make namespaces.

    Args:
        sysctls: those that this kernel has.
        starts: bubblewrap was seen to make its namespaces.
        bwrap: the path of its program, for an AppArmor profile.
    """
    name = "user namespaces"
    found = ", ".join(f"{key} = {value}" for key, value in sysctls.items()) or "no setting limits them"
    off = {
        # A Debian and Arch patch; on by default since Debian 11 (bubblewrap's README.Debian).
        "kernel.unprivileged_userns_clone": 1,
        # 0 is what the RHEL STIG asks for (V-257816); the kernel's own default follows from memory.
        "user.max_user_namespaces": 15000,
    }
    closed = [(key, value) for key, value in off.items() if sysctls.get(key) == 0]
    if closed:
        lines = "\n".join(
            f"echo {key}={value} | sudo tee -a /etc/sysctl.d/60-corral.conf" for key, value in closed
        )
        consequence = "an ordinary user cannot make a namespace, so nothing can run"
        yield Check(name, State.MISSING, found, consequence, f"{lines}\nsudo sysctl --system")
    elif "user.max_user_namespaces" not in sysctls and not starts:
        consequence = "this kernel seems to be built without user namespaces (CONFIG_USER_NS)"
        yield Check(name, State.MISSING, found, consequence, "Boot a kernel with CONFIG_USER_NS=y")
    else:
        yield Check(name, State.OK, found)
    if sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == 1:
        yield _check_apparmor(starts=starts, bwrap=bwrap)


def _check_apparmor(*, starts: bool, bwrap: str) -> Check:
    """Ubuntu 23.10 and later let only programs with a profile make user namespaces.

    https://discourse.ubuntu.com/t/spec-unprivileged-user-namespace-restrictions-via-apparmor-in-ubuntu-23-10/37626
    The profile must not confine: a sandbox makes namespaces within its first ones, and what an unconfined profile
    starts keeps that profile (security/apparmor/domain.c, profile_transition).
    """
    name = "AppArmor"
    if starts:
        return Check(name, State.OK, "restricts user namespaces, and lets bubblewrap make them")
    # One line each, so that they can be copied from wherever they stand.
    lines = (
        "abi <abi/4.0>,",
        "include <tunables/global>",
        f'profile corral "{bwrap}" flags=(unconfined) {{',
        "userns,",
        "}",
    )
    profile = (
        f"printf '%s\\n' {' '.join(shlex.quote(line) for line in lines)} | sudo tee /etc/apparmor.d/corral\n"
        "sudo apparmor_parser -r /etc/apparmor.d/corral\n"
        "or, for every program of this machine:\n"
        "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee -a /etc/sysctl.d/60-corral.conf\n"
        "sudo sysctl --system"
    )
    return Check(
        name,
        State.MISSING,
        "kernel.apparmor_restrict_unprivileged_userns = 1, without a profile for bubblewrap",
        "a namespace that bubblewrap makes gives it no rights in it, so nothing can run",
        profile,
    )


def check_process_count(release: str) -> Check:
    """Judge how RLIMIT_NPROC counts."""
    if _version(release) >= _COUNTS_PER_NAMESPACE:
        return Check("process ceiling", State.OK, "RLIMIT_NPROC counts each sandbox by itself")
    return Check(
        "process ceiling",
        State.WEAKER,
        "RLIMIT_NPROC counts all processes of a user on this machine",
        "limits.processes is held by watching alone: a burst can pass it before it is seen",
        "Install a kernel of 5.14 or newer",
    )


def check_cgroup(own: Path, root: Path) -> Check:
    """Tell which control groups there are. Sandboxes of the embedded mode do without.

    Args:
        own: ``/proc/self/cgroup``.
        root: where the hierarchy is mounted.
    """
    held = "limits are held by rlimits and by looking every 10 ms, so a burst can pass one before it is seen"
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Check("cgroup", State.OK, "none", held)
    # "0::/path" is version 2's line; every other one is a hierarchy of version 1 (cgroups(7)).
    unified = next((line[3:] for line in lines if line.startswith("0::")), None)
    old = [line.split(":")[1] for line in lines if not line.startswith("0::")]
    if unified is None or any(controller in {"memory", "pids", "cpu"} for controller in old):
        return Check("cgroup", State.OK, "version 1; not delegated", held)
    group = root / unified.lstrip("/")
    # Delegated: the group is writable by this user (systemd, CGROUP_DELEGATION.md).
    delegated = os.geteuid() != 0 and os.access(group / "cgroup.procs", os.W_OK)
    controllers = _words(group / "cgroup.controllers")
    found = f"version 2; {f'delegated, with {controllers}' if delegated else 'not delegated'}"
    return Check("cgroup", State.OK, found, held)


def check_landlock(version: int) -> Check:
    """Judge the version of Landlock's ABI; 0 is none."""
    if version == 0:
        return Check(
            "Landlock",
            State.WEAKER,
            "none",
            "what a tool may read and write is held by mounts alone; allowedPaths narrower than the workspace, and "
            "tools without permission to write, are held by the tools themselves",
            "Boot a kernel of 5.13 or newer with landlock among its security modules (lsm= on its command line)",
        )
    lacking = [(kernel, what) for least, kernel, what in _LANDLOCK if version < least]
    if not lacking:
        return Check(
            "Landlock", State.OK, f"ABI {version}: files, truncation, devices, signals, abstract sockets"
        )
    return Check(
        "Landlock",
        State.WEAKER,
        f"ABI {version}",
        "; ".join(what for _, what in lacking),
        f"Install a kernel of {lacking[-1][0]} or newer",
    )


def check_resources(available_bytes: int | None, cores: int) -> Check:
    """Tell what tasks share."""
    memory = DEFAULT_LIMITS.memory or ""
    least = ResolvedLimits.of(DEFAULT_LIMITS).memory_bytes
    cpus = f"{cores} core" if cores == 1 else f"{cores} cores"
    if available_bytes is None:
        return Check("memory and CPU", State.OK, cpus)
    found = f"{available_bytes / (1 << 30):.1f} GiB free, {cpus}"
    if available_bytes >= least:
        return Check("memory and CPU", State.OK, found)
    return Check(
        "memory and CPU",
        State.WEAKER,
        found,
        f"a task may take {memory} by default, so the machine may run out before a task reaches its limit",
        "Free memory, or give tasks less: limits.memory, --limit memory=64Mi",
    )


# --- what is tried ---


def _try_bubblewrap() -> Check:
    """Start the outer wall, with the interpreter behind it that does nothing."""
    name = "bubblewrap"
    try:
        installation = Installation.of_this_process()
        arguments = command(installation, Launch("nursery", 0), DEFAULT_PROFILE)
    except IsolationUnavailableError as error:
        return Check(name, State.MISSING, error.missing, "nothing can run", error.remedy)
    # What follows the last -- is the runner's command line.
    inside = len(arguments) - arguments[::-1].index("--")
    arguments[inside:] = [str(installation.python), "-I", "-S", "-c", "pass"]
    began = time.perf_counter()
    try:
        ended = subprocess.run(
            arguments,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(
            name, State.MISSING, f"{installation.bwrap}: {error}", "nothing can run", "Install it anew"
        )
    took = (time.perf_counter() - began) * 1000
    if ended.returncode == 0:
        return Check(name, State.OK, f"{installation.bwrap} starts, in {took:.0f} ms")
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    why = said[-1] if said else f"exit status {ended.returncode}"
    return Check(
        name,
        State.MISSING,
        f"{installation.bwrap} does not start: {why}",
        "nothing can run",
        _bubblewrap_remedy(why),
    )


def _bubblewrap_remedy(said: str) -> str:
    if "proc" in said:
        # The kernel mounts a fresh /proc only where a whole one is seen; container runtimes cover parts of it.
        # https://github.com/flatpak/flatpak/pull/2867
        return "In a container: let its runtime leave /proc whole (docker run --security-opt systempaths=unconfined)"
    # Docker's default filter refuses clone and unshare (https://github.com/containers/bubblewrap/issues/505).
    return (
        "See user namespaces and AppArmor above. In a container, its runtime refuses namespaces: docker run "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
    )


async def _try_tool() -> Trial:
    """Run a tool as every tool is run."""
    limits = ResolvedLimits.of(DEFAULT_LIMITS)
    request = ExecutionRequest(
        id="probe",
        owner=Owner("probe"),
        run={"function": {"code": _TOOL, "entrypoint": "main"}},
        limits=limits,
    )
    record = Record("probe", "probe", 1, datetime.now(UTC))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), EmbeddedBackend(waiting=0) as backend:
            sandbox = await backend.acquire(SandboxNeeds(limits.disk_bytes))
            try:
                status = await execute(sandbox, request, record)
            finally:
                backend.release(sandbox)
    except IsolationUnavailableError as error:
        return Trial(None, missing=error.missing, remedy=error.remedy)
    except (SandboxError, TimeoutError) as error:
        return Trial(None, missing=str(error) or "it did not answer")
    return Trial(status, record.isolation, time.perf_counter() - began)


def check_cells(trial: Trial) -> Check:
    """Judge the attempt to run a tool."""
    name = "sandbox"
    status = trial.status
    if status is None or not status.succeeded:
        why = trial.missing if status is None else f"{status.reason}: {status.message}"
        remedy = trial.remedy or "See what else is missing here"
        return Check(name, State.MISSING, f"no tool ran: {why}", "nothing can run", remedy)
    lacking = [layer for layer in LAYERS if layer not in trial.isolation]
    found = f"a tool ran in {trial.seconds * 1000:.0f} ms behind {', '.join(trial.isolation)}"
    if not lacking:
        return Check(name, State.OK, found)
    return Check(name, State.WEAKER, found, f"without {', '.join(lacking)}", "See those rows")


def check_seccomp(trial: Trial) -> Check:
    """Judge what became of the tool's attempt to open a socket."""
    name = "seccomp"
    status = trial.status
    if status is None or status.reason not in {Reason.COMPLETED, Reason.NETWORK_DENIED}:
        return Check(name, State.WEAKER, "not tried: no tool ran")
    if status.denials:
        return Check(name, State.OK, "refuses system calls, and says which (user notification)")
    if "seccomp" in trial.isolation and isinstance(status.result, int):
        return Check(
            name,
            State.WEAKER,
            "refuses system calls, and cannot say which",
            "a result does not name what was denied, and a refused connection has reason ToolError",
            "Install a kernel of 5.0 or newer; in a container, let its runtime allow seccomp notifications",
        )
    return Check(
        name,
        State.WEAKER,
        "does not refuse system calls",
        "the network and the kernel's rarer calls are closed by namespaces alone",
        "Boot a kernel with CONFIG_SECCOMP_FILTER=y",
    )


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


def _version(release: str) -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _words(path: Path) -> str:
    try:
        return ", ".join(path.read_text(encoding="ascii").split()) or "no controllers"
    except OSError:
        return "no controllers"
