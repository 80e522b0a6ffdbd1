"""What is tried for real: bubblewrap is started, and a tool is run in a sandbox."""

import asyncio
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from corral.api import DEFAULT_LIMITS, ExecutionStatus, Reason, ResolvedLimits
from corral.sandbox.bubblewrap import Installation, Launch, command
from corral.sandbox.embedded import EmbeddedBackend
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
        _bubblewrap_remedy(why),
    )


def _bubblewrap_remedy(said: str) -> str:
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


async def try_tool() -> Trial:
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
    if status is None or not trial.ran:
        why = trial.missing
        if status is not None:
            kind = f" ({status.error.type})" if status.error is not None else ""
            why = f"{status.reason}: {status.message}{kind}"
        remedy = (
            trial.remedy or "If nothing else is missing here, report it with what corral doctor -o json says"
        )
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
    if status is None or not trial.ran:
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
