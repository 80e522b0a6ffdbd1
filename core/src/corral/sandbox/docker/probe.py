"""Whether the Docker backend can run tasks here: asked of the daemon, and tried for real."""

import asyncio

from corral.sandbox.docker.backend import DockerBackend
from corral.sandbox.docker.engine import Engine, Machine
from corral.sandbox.docker.options import DockerOptions
from corral.sandbox.docker.sandbox import DockerSandbox
from corral.sandbox.errors import IsolationUnavailableError, SandboxError
from corral.sandbox.port import SandboxNeeds
from corral.sandbox.probe.report import Check, Report, State

_MIB = 1 << 20


def probe_docker() -> Report:
    """Look at the daemon, and start one sandbox there. Takes a second; not to be called from a running event loop."""
    return asyncio.run(_probe())


async def _probe() -> Report:
    try:
        options = DockerOptions.of_environment()
        engine = Engine(options.host)
    except IsolationUnavailableError as error:
        return _unusable(error, "docker")
    try:
        machine = await engine.machine()
    except IsolationUnavailableError as error:
        return _unusable(error, "daemon")
    finally:
        engine.close()
    checks = [_daemon(machine, engine.host)]
    try:
        async with DockerBackend(waiting=0, options=options) as backend:
            sandbox = await backend.acquire(SandboxNeeds(16 * _MIB))
            assert isinstance(sandbox, DockerSandbox)
            isolation, weakened = await sandbox.layers()
    except IsolationUnavailableError as error:
        return _unusable(error, "sandbox", *checks)
    except SandboxError as error:
        return _unusable(IsolationUnavailableError(str(error), "docker info tells more"), "sandbox", *checks)
    checks.append(Check("sandbox", State.OK, f"a container of {options.image} came up"))
    checks += [_layer(name) for name in weakened]
    return Report(True, isolation, tuple(checks))


def _unusable(error: IsolationUnavailableError, name: str, *before: Check) -> Report:
    return Report(False, (), (*before, Check(name, State.MISSING, error.missing, remedy=error.remedy)))


def _daemon(machine: Machine, host: str) -> Check:
    where = (
        "on this machine"
        if machine.local
        else "on another machine: no directory of this one can be a workspace"
    )
    return Check("daemon", State.OK, f"Docker {machine.version} at {host}, {where}")


def _layer(name: str) -> Check:
    consequence, remedy = _WEAKNESSES.get(name, ("", ""))
    return Check(name, State.WEAKER, "not in force in a container of this daemon", consequence, remedy)


_WEAKNESSES = {
    "ceilings": (
        "What the kernel counts per user (inotify, user namespaces) is shared by the sandboxes of this daemon",
        "Start the daemon with --userns-remap=default, or rootless",
    ),
    "landlock": (
        "allowedPaths and a read-only bound workspace are refused",
        "Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and a Docker whose own filter allows it (20.10.24 does)",
    ),
    "seccomp": ("Every task is refused", "A kernel with CONFIG_SECCOMP_FILTER"),
    "seccomp-notifications": ("Results do not name the system calls that were refused", "Linux 5.0 or newer"),
    "outer-seccomp": (
        "The daemon gives containers no system call filter, so the runner itself has none; tools have the runner's",
        "Start the daemon without --seccomp-profile=unconfined",
    ),
    "outer-cpu": (
        "The engine does not hold the CPU rate; the runner does",
        "A kernel with CONFIG_CFS_BANDWIDTH",
    ),
}


def availability() -> tuple[bool, str]:
    """Say whether the Docker backend could be used, without starting anything, and what is there or missing."""
    return asyncio.run(_availability())


async def _availability() -> tuple[bool, str]:
    try:
        options = DockerOptions.of_environment()
        engine = Engine(options.host)
        try:
            machine = await engine.machine()
            if not await engine.has_image(options.image):
                return False, f"Docker {machine.version} has no image {options.image}. Build it: make image"
        finally:
            engine.close()
    except IsolationUnavailableError as error:
        return False, str(error)
    return True, f"Docker {machine.version} at {engine.host}, image {options.image}"
