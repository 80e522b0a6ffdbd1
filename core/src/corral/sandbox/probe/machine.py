"""The kernel and its settings, and what they mean for sandboxes.

A judgement is a function of what was read, so that other machines than this one can be judged too.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from corral.api import DEFAULT_LIMITS, ResolvedLimits
from corral.sandbox.probe.report import Check, State

#: openat2(2), by which files are copied in and out, came with Linux 5.6.
_OLDEST_KERNEL = (5, 6)
#: Processes are counted per user and user namespace since "Reimplement RLIMIT_NPROC on top of ucounts"
#: (torvalds/linux 21d1c5e386bc, Linux 5.14); before, per user on the whole machine.
_COUNTS_PER_NAMESPACE = (5, 14)
_MACHINES = ("x86_64", "aarch64")
# What each version of Landlock's ABI adds, as far as sandboxes use it, and what a sandbox lacks without it
# (Documentation/userspace-api/landlock.rst, "Previous limitations"). Version 4 adds TCP ports, which no
# sandbox has anyway; 7 and 8 add audit records and thread synchronisation.
_LANDLOCK = (
    (2, "5.19", "moving or linking a file from one directory to another fails with EXDEV"),
    (3, "6.2", "truncating a file is not held to the paths that a tool may write"),
    (5, "6.10", "requests to devices (ioctl) are not held to the devices that a tool may use"),
    (6, "6.12", "signals and abstract sockets are held by the pid and network namespaces alone"),
)


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
    The profile must not confine: a sandbox makes namespaces within its first ones, and what an unconfined
    profile starts keeps that profile (security/apparmor/domain.c, profile_transition).
    """
    name = "AppArmor"
    if starts:
        return Check(name, State.OK, "restricts user namespaces, and lets bubblewrap make them")
    return Check(
        name,
        State.MISSING,
        "kernel.apparmor_restrict_unprivileged_userns = 1, without a profile for bubblewrap",
        "a namespace that bubblewrap makes gives it no rights in it, so nothing can run",
        apparmor_remedy(bwrap),
    )


def nesting_remedy(sysctls: Mapping[str, int], bwrap: str) -> str:
    """Say what lets namespaces be made within namespaces, where bubblewrap's first ones can be made."""
    if sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == 1:
        # A profile that confines, such as Ubuntu's for /usr/bin/bwrap, takes the right from what bubblewrap starts.
        return apparmor_remedy(bwrap)
    return (
        "Raise user.max_user_namespaces; in a container, let its runtime allow namespaces within namespaces"
    )


def apparmor_remedy(bwrap: str) -> str:
    """Return the commands that let this bubblewrap, and what it starts, make user namespaces."""
    # One line each, so that they can be copied from wherever they stand.
    lines = (
        "abi <abi/4.0>,",
        "include <tunables/global>",
        f'profile corral "{bwrap}" flags=(unconfined) {{',
        "userns,",
        "}",
    )
    return (
        f"printf '%s\\n' {' '.join(shlex.quote(line) for line in lines)} | sudo tee /etc/apparmor.d/corral\n"
        "sudo apparmor_parser -r /etc/apparmor.d/corral\n"
        "or, for every program of this machine:\n"
        "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee -a /etc/sysctl.d/60-corral.conf\n"
        "sudo sysctl --system"
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
            "what a tool may read and write is held by mounts alone; allowedPaths within the workspace, "
            "and tools without permission to write, are held by the tools themselves",
            "Boot a kernel of 5.13 or newer with landlock among its security modules (lsm= at boot)",
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


def _version(release: str) -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _words(path: Path) -> str:
    try:
        return ", ".join(path.read_text(encoding="ascii").split()) or "no controllers"
    except OSError:
        return "no controllers"
