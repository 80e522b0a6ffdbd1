"""Starting programs: every one with a time limit, and an error that shows what it said."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from rig.errors import CommandError, RigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def output(
    command: Sequence[str | Path],
    *,
    timeout_seconds: float = 60,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    remedy: str = "",
) -> str:
    """Run a program and return its standard output.

    Args:
        command: the program and its arguments; no shell sees them.
        timeout_seconds: after which it is killed.
        env: variables on top of this process's own.
        stdin: what it reads; nothing if None.
        cwd: where it runs.
        remedy: what to tell the reader if it fails.

    Raises:
        CommandError: it failed, or was killed at its time limit.
        RigError: there is no such program.
    """
    words = tuple(str(word) for word in command)
    try:
        done = subprocess.run(
            words,
            input=stdin.encode() if isinstance(stdin, str) else (b"" if stdin is None else stdin),
            capture_output=True,
            timeout=timeout_seconds,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"") + (error.stderr or b"")
        text = said.decode(errors="replace")
        raise CommandError(words, f"took longer than {timeout_seconds:g} s", text, remedy) from error
    except FileNotFoundError as error:
        raise RigError(f"there is no program {words[0]!r}", remedy) from error
    if done.returncode != 0:
        text = (done.stdout + done.stderr).decode(errors="replace")
        raise CommandError(words, f"ended with {done.returncode}", text, remedy)
    return done.stdout.decode(errors="replace")


def succeeds(
    command: Sequence[str | Path], *, timeout_seconds: float = 30, env: Mapping[str, str] | None = None
) -> bool:
    """Whether a program exists, ends in time, and ends with 0."""
    try:
        output(command, timeout_seconds=timeout_seconds, env=env)
    except RigError:
        return False
    return True


def is_root() -> bool:
    return os.geteuid() == 0


def install_debian_packages(*packages: str, why: str) -> None:
    """Install packages with apt, as root on Debian and its kin; say how to get them anywhere else."""
    names = " ".join(packages)
    if not is_root() or shutil.which("apt-get") is None:
        raise RigError(
            f"{why} needs the Debian packages {names}", "Install them, or run this as root on Debian."
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    output(["apt-get", "update", "-qq"], timeout_seconds=300, env=quiet)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    output(install, timeout_seconds=900, env=quiet)
