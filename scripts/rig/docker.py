"""A Docker daemon to work with: the one that answers already, or one of the rig's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from rig import firewall
from rig.errors import RigError
from rig.progress import say, step
from rig.shell import install_debian_packages, is_root, output, succeeds

# Names of its own: it never meets another daemon's files, and it alone is stopped later.
RUN = Path("/run/corral-rig")
_SOCKET = RUN / "docker.sock"
_PID_FILE = RUN / "docker.pid"
_DATA = Path("/var/lib/corral-rig/docker")
_LOG = RUN / "dockerd.log"
_FIREWALL_BEFORE = RUN / "firewall-before.json"

# Its bit in the sets of /proc/self/status.
_CAP_SYS_RESOURCE = 24

_START_SECONDS = 60
_STOP_SECONDS = 60
_REMEDY = (
    "Install Docker (https://docs.docker.com/engine/install) and start it, or set DOCKER_HOST to a daemon that "
    "runs, or run this as root on Debian or Ubuntu, where the rig installs and starts one itself."
)


def connect() -> str:
    """Make sure that a daemon answers; from then on every `docker` of this process and its children uses it.

    Returns:
        The value of DOCKER_HOST; empty for the client's own default.

    Raises:
        RigError: there is none and none can be started; it says what is missing.
    """
    if answers():
        return os.environ.get("DOCKER_HOST", "")
    if chosen := os.environ.get("DOCKER_HOST"):
        raise RigError(f"no Docker daemon answers at DOCKER_HOST={chosen}", "Start it, or unset DOCKER_HOST.")
    if not is_root():
        raise RigError("no Docker daemon answers, and only root can start one", _REMEDY)
    if _answers_at(_host()):
        return _use_own()
    if shutil.which("dockerd") is None:
        if shutil.which("apt-get") is None:
            raise RigError("there is no dockerd on this machine", _REMEDY)
        with step("installing docker.io"):
            install_debian_packages("docker.io", "iptables", why="a Docker daemon")
        if answers():  # where systemd runs, the package has started it
            return ""
    with step("starting a Docker daemon of the rig's own"):
        _start()
    return _use_own()


def answers() -> bool:
    return shutil.which("docker") is not None and succeeds(["docker", "info"], timeout_seconds=20)


def is_own() -> bool:
    """Whether this process works with the rig's own daemon."""
    return os.environ.get("DOCKER_HOST") == _host()


def stop(*, if_idle: bool = False) -> None:
    """Stop the rig's own daemon, if it runs, and take away what it left in the kernel. Its images stay on disk.

    Args:
        if_idle: leave it to whoever else has containers there.
    """
    pid = _own_pid()
    if pid is None:
        say("no Docker daemon of the rig runs")
        return
    if if_idle and (running := output(["docker", f"--host={_host()}", "ps", "--format={{.Names}}"]).split()):
        say(f"the rig's Docker daemon goes on, for these run there: {', '.join(running)}")
        return
    with step("stopping the rig's Docker daemon"):
        os.kill(pid, signal.SIGTERM)
        _wait_for_end(pid)
        firewall.forget_docker(_FIREWALL_BEFORE)
        shutil.rmtree(RUN, ignore_errors=True)


def _use_own() -> str:
    os.environ["DOCKER_HOST"] = _host()
    return _host()


def _host() -> str:
    return f"unix://{_SOCKET}"


def _answers_at(host: str) -> bool:
    return _SOCKET.exists() and succeeds(["docker", "info"], timeout_seconds=20, env={"DOCKER_HOST": host})


def _start() -> None:
    if (pid := _own_pid()) is not None:
        raise RigError(
            f"the rig's dockerd ({pid}) runs but does not answer", f"See {_LOG}; kill {pid} helps."
        )
    RUN.mkdir(parents=True, exist_ok=True)
    _DATA.mkdir(parents=True, exist_ok=True)
    firewall.remember(_FIREWALL_BEFORE)
    command = [
        "dockerd",
        f"--host={_host()}",
        f"--data-root={_DATA}",
        f"--exec-root={RUN / 'docker'}",
        f"--pidfile={_PID_FILE}",
        *_runtime_options(),
    ]
    with _LOG.open("wb") as log:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers_at(_host()):
        if daemon.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(_LOG.read_text(errors="replace").splitlines()[-15:])
            raise RigError(f"dockerd did not start; {_LOG} ends with\n{tail}", _REMEDY)
        time.sleep(0.2)


def _runtime_options() -> list[str]:
    """See `rig.oci_runtime`, needed only where root lacks the capability.

    The daemon gets a copy, for it may outlive this checkout's version.
    """
    if _has_capability(_CAP_SYS_RESOURCE):
        return []
    runc = shutil.which("runc") or "/usr/sbin/runc"
    source = shutil.copy(Path(__file__).with_name("oci_runtime.py"), RUN)
    runtime = RUN / "oci-runtime"
    runtime.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {source} {runc} "$@"\n', encoding="utf-8")
    runtime.chmod(0o755)
    return [f"--add-runtime=corral-rig={runtime}", "--default-runtime=corral-rig"]


def _has_capability(bit: int) -> bool:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def _own_pid() -> int | None:
    """The process of the rig's daemon; None if it is not running or the number now belongs to another program."""
    try:
        pid = int(_PID_FILE.read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--pidfile={_PID_FILE}".encode() in words else None


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise RigError(f"dockerd ({pid}) does not end", f"See {_LOG}.")
        # A daemon that this very process has started has to be reaped by it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.1)


def pulls(image: str, *, timeout_seconds: float = 300) -> bool:
    """Whether an image is there or can be pulled.

    A registry that cannot be reached is found out with a short limit first, because a pull may hang for minutes.
    """
    if succeeds(["docker", "image", "inspect", image]):
        return True
    if not succeeds(["docker", "manifest", "inspect", image], timeout_seconds=15):
        return False
    try:
        output(["docker", "pull", "--quiet", image], timeout_seconds=timeout_seconds)
    except RigError as error:
        say(f"cannot pull {image}: {error}")
        return False
    return True


def classic_builder() -> dict[str, str]:
    """The environment in which `docker build` works: without buildx only its first builder does."""
    return {} if succeeds(["docker", "buildx", "version"]) else {"DOCKER_BUILDKIT": "0"}


def reaches_any() -> bool:
    """Whether a daemon answers, without starting one; then it is the one in use, as after `connect`."""
    if answers():
        return True
    if not os.environ.get("DOCKER_HOST") and _answers_at(_host()):
        _use_own()
        return True
    return False
