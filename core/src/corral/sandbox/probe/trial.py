"""What is tried for real: bubblewrap is started, and a tool is run in a sandbox."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from corral.api import DEFAULT_LIMITS, ExecutionStatus, Reason, ResolvedLimits
from corral.sandbox.bubblewrap import Installation, Launch, command
from corral.sandbox.cells import Cells
from corral.sandbox.embedded import EmbeddedBackend, EmbeddedSandbox
from corral.sandbox.errors import IsolationUnavailableError, SandboxError
from corral.sandbox.execution import Record, execute
from corral.sandbox.port import ExecutionRequest, Owner, SandboxNeeds
from corral.sandbox.probe.report import Check, State
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
#: Enough for a nursery, its cell and the tool on any machine that is not stuck.
_PATIENCE_SECONDS = 30

#: A tool of two lines that asks for what no tool may have. The refusal must come back with the result.
_TOOL = """
import socket

def main():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the attempt to run a tool."""

    status: ExecutionStatus | None
    isolation: tuple[str, ...] = ()
    seconds: float = 0.0
    #: Why there is no status, and what to do about it.
    missing: str = ""
    remedy: str = ""

    @property
    def why(self) -> str:
        """Why no tool ran."""
        if self.status is None:
            return self.missing
        kind = f" ({self.status.error.type})" if self.status.error is not None else ""
        return f"{self.status.reason}: {self.status.message}{kind}"

    @property
    def ran(self) -> bool:
        """The tool came to its end, refused or not."""
        return self.status is not None and self.status.reason in {Reason.COMPLETED, Reason.NETWORK_DENIED}


def try_bubblewrap() -> Check:
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
        bubblewrap_remedy(why),
    )


def bubblewrap_remedy(said: str) -> str:
    """Return what to do about something that bubblewrap said when it did not start."""
    if "No space left" in said or "ENOSPC" in said:
        # What unshare(2) and clone(2) answer when a limit of /proc/sys/user is reached.
        return "echo user.max_user_namespaces=15000 | sudo tee -a /etc/sysctl.d/60-corral.conf\nsudo sysctl --system"
    if "proc" in said:
        # The kernel mounts a fresh /proc only where a whole one is seen; container runtimes cover parts of
        # it (https://github.com/flatpak/flatpak/pull/2867).
        return "In a container, let /proc be whole: docker run --security-opt systempaths=unconfined"
    # Docker's default filter refuses clone and unshare (https://github.com/containers/bubblewrap/issues/505).
    return (
        "See user namespaces and AppArmor here. In a container, its runtime refuses namespaces: docker run "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined"
    )


async def try_sandbox() -> Trial:
    """Run a tool in a sandbox of its own, as ``corral run`` does."""
    limits = ResolvedLimits.of(DEFAULT_LIMITS)

    async def run(record: Record) -> ExecutionStatus:
        async with EmbeddedBackend(waiting=0) as backend:
            sandbox = await backend.acquire(SandboxNeeds(limits.disk_bytes))
            try:
                return await execute(sandbox, _request(limits), record)
            finally:
                backend.release(sandbox)

    return await _try(run)


async def try_cell() -> Trial:
    """Run a tool in a cell, as those who keep sandboxes waiting do."""
    limits = ResolvedLimits.of(DEFAULT_LIMITS)

    async def run(record: Record) -> ExecutionStatus:
        cells = Cells(Installation.of_this_process(), DEFAULT_PROFILE, ())
        try:
            sandbox = EmbeddedSandbox(await cells.make(SandboxNeeds(limits.disk_bytes)), warm=False)
            try:
                return await execute(sandbox, _request(limits), record)
            finally:
                await sandbox.close()
        finally:
            await cells.close()

    return await _try(run)


def _request(limits: ResolvedLimits) -> ExecutionRequest:
    function = {"function": {"code": _TOOL, "entrypoint": "main"}}
    return ExecutionRequest(id="probe", owner=Owner("probe"), run=function, limits=limits)


async def _try(run: Callable[[Record], Awaitable[ExecutionStatus]]) -> Trial:
    record = Record("probe", "probe", 1, datetime.now(UTC))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            status = await run(record)
    except IsolationUnavailableError as error:
        return Trial(None, missing=error.missing, remedy=error.remedy)
    except (SandboxError, TimeoutError) as error:
        return Trial(None, missing=str(error) or "it did not answer")
    return Trial(status, record.isolation, time.perf_counter() - began)


def check_sandbox(trial: Trial) -> Check:
    """Judge the attempt to run a tool in a sandbox of its own."""
    name = "sandbox"
    if not trial.ran:
        remedy = (
            trial.remedy or "If nothing else is missing here, report it with what corral doctor -o json says"
        )
        return Check(name, State.MISSING, f"no tool ran: {trial.why}", "nothing can run", remedy)
    lacking = [layer for layer in LAYERS if layer not in trial.isolation]
    found = f"a tool ran in {trial.seconds * 1000:.0f} ms behind {', '.join(trial.isolation)}"
    if not lacking:
        return Check(name, State.OK, found)
    return Check(name, State.WEAKER, found, f"without {', '.join(lacking)}", "See those rows")


def check_cells(trial: Trial, remedy: str) -> Check:
    """Judge the attempt to run a tool in a cell.

    Args:
        trial: the attempt.
        remedy: what lets namespaces be made within namespaces here.
    """
    name = "cells"
    if trial.ran:
        found = "namespaces within namespaces, made for each task in some milliseconds"
        return Check(name, State.OK, found)
    return Check(
        name,
        State.WEAKER,
        f"not made: {trial.why}",
        "every sandbox is a bubblewrap of its own: one wall less around a tool, and slower where many tasks run",
        remedy,
    )


def check_seccomp(trial: Trial) -> Check:
    """Judge what became of the tool's attempt to open a socket."""
    name = "seccomp"
    status = trial.status
    assert status is not None, "only an attempt that ran has something to say of it"
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
