"""What one container is: the body of ``POST /containers/create`` (Docker Engine API). Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from corral.api import ResolvedLimits
from corral.sandbox.profile import Profile

WORKSPACE: Final = "/workspace"
#: Nobody's number outside, and the one that "nonroot" images use.
USER: Final = 65532
_SCRATCH: Final = ("/tmp", "/dev/shm")  # noqa: S108 - inside the container
#: As in the embedded sandbox: inodes cost kernel memory that no size option counts.
_INODES: Final = 16384
#: For the runner and the interpreter, beside what the tool may use.
_OVERHEAD_BYTES: Final = 96 << 20
#: Ceiling for every process; the runner sets the tool's own below it when it starts.
_OPEN_FILES: Final = 4096
#: What Docker gives, by the names of ``ready`` (docs/runner-protocol.md).
_LAYERS: Final = {
    "pid": "pidns",
    "system": "mountns",
    "net": "netns",
    "ipc": "ipcns",
    "uts": "utsns",
    "cgroup": "cgroupns",
}


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The part of a task's limits that the engine's cgroup enforces; it can be changed while the container waits."""

    memory_bytes: int
    processes: int
    cpu: float

    @classmethod
    def of(cls, limits: ResolvedLimits, disk_bytes: int, cores: int) -> "EngineLimits":
        """Put the walls around a task: a little above its own limits, which the runner enforces with their reasons.

        Args:
            limits: of the task.
            disk_bytes: size of the sandbox's file systems, which are memory.
            cores: of the daemon's machine; more cannot be asked for.
        """
        return cls(
            memory_bytes=limits.memory_bytes + disk_bytes + _OVERHEAD_BYTES,
            processes=limits.processes + 2 + max(4, limits.processes // 8),
            # The runner is in the same cgroup, and must not be held back with a tool that spins: it keeps the tool
            # at the rate itself.
            cpu=min(float(cores), limits.cpu * 1.25),
        )

    def update(self) -> dict[str, Any]:
        """Return the body of ``POST /containers/ID/update``."""
        return {
            "Memory": self.memory_bytes,
            # The same: no swap.
            "MemorySwap": self.memory_bytes,
            "PidsLimit": self.processes,
            "NanoCpus": int(self.cpu * 1e9),
        }


@dataclass(frozen=True, slots=True)
class Room:
    """What is fixed when a container is made."""

    image: str
    limits: EngineLimits
    disk_bytes: int
    #: A directory of the daemon's machine that becomes the workspace, and who owns it.
    workspace: Path | None = None
    workspace_read_only: bool = False
    user: tuple[int, int] = (USER, USER)
    #: Who made it; see ``leftovers``.
    labels: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    #: The daemon maps users of containers to others of its machine.
    remapped_users: bool = False
    #: Layers that the profile, or the daemon, leaves out.
    weakened: tuple[str, ...] = ()


def runner_container(room: Room, profile: Profile, preload: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe a container whose first process is the runner.

    The image's entry point must be ``corral_runner serve``, as the Dockerfile has it; what follows are the settings.
    """
    file_systems = [*([] if room.workspace else [WORKSPACE]), *_SCRATCH]
    settings = {
        "standardStreams": True,
        "preload": list(preload),
        "off": sorted(profile.runner_layers_off),
        "weakened": list(room.weakened),
        "outer": engine_layers(room, profile),
        "fileSystems": file_systems,
        "boundWorkspace": room.workspace is not None,
    }
    body = _container(room, profile)
    body["Cmd"] = [json.dumps(settings, separators=(",", ":"))]
    body["HostConfig"]["Tmpfs"] = _tmpfs(room, file_systems)
    return body


def engine_layers(room: Room, profile: Profile) -> list[str]:
    """Return the layers that the engine puts around a container, by their names in ``ready``."""
    outer = [layer for name, layer in _LAYERS.items() if name not in profile.outer_layers_off]
    return ["userns", *outer] if room.remapped_users else outer


@dataclass(frozen=True, slots=True)
class Program:
    """A command that is a container's own process, in an image without the runner."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    may_write: bool
    file_size_bytes: int
    open_files: int
    cpu_seconds: float


def program_container(room: Room, profile: Profile, program: Program) -> dict[str, Any]:
    """Describe a container that is one command. What the runner would have enforced is the engine's alone here."""
    file_systems = [*([] if room.workspace else [WORKSPACE]), *_SCRATCH]
    body = _container(room, profile)
    body["Entrypoint"] = [program.argv[0]]
    body["Cmd"] = list(program.argv[1:])
    body["Env"] = [f"{name}={value}" for name, value in {"HOME": WORKSPACE, **program.env}.items()]
    host = body["HostConfig"]
    host["Tmpfs"] = _tmpfs(room, file_systems, read_only=() if program.may_write else (WORKSPACE,))
    # Its exit and whether the kernel killed it are looked at afterwards; then it is removed.
    host["AutoRemove"] = False
    # The first process of a pid namespace takes no signal that it has no handler for (pid_namespaces(7)), SIGXFSZ among
    # them; a program does not expect that. The engine's own init, a few kilobytes, is first instead.
    host["Init"] = True
    cpu = max(1, int(program.cpu_seconds + 0.999))
    host["Ulimits"] = [
        *(limit for limit in host["Ulimits"] if limit["Name"] != "nofile"),
        _ulimit("nofile", min(program.open_files, _OPEN_FILES)),
        _ulimit("fsize", program.file_size_bytes),
        _ulimit("cpu", cpu, cpu + 1),
    ]
    return body


def _container(room: Room, profile: Profile) -> dict[str, Any]:
    off = profile.outer_layers_off
    uid, gid = room.user
    host: dict[str, Any] = {
        "NetworkMode": "host" if "net" in off else "none",
        "PidMode": "host" if "pid" in off else "",
        "IpcMode": "host" if "ipc" in off else "private",
        "UTSMode": "host" if "uts" in off else "",
        "CgroupnsMode": "host" if "cgroup" in off else "private",
        "ReadonlyRootfs": "system" not in off,
        "Privileged": False,
        "CapDrop": ["ALL"],
        # The daemon's own filter of system calls stays in force, and stands around the runner too. A profile without
        # the runner's filter, which only tests have, is without this one as well, or it would prove nothing.
        "SecurityOpt": [
            "no-new-privileges",
            *(["seccomp=unconfined"] if "seccomp" in profile.runner_layers_off else []),
        ],
        **room.limits.update(),
        "OomKillDisable": False,
        "Ulimits": [
            _ulimit("nofile", _OPEN_FILES),
            _ulimit("core", 0),
            _ulimit("memlock", 64 * 1024),
            _ulimit("msgqueue", 0),
            _ulimit("rtprio", 0),
            _ulimit("nice", 0),
        ],
        "Init": False,
        "AutoRemove": True,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none"},
        "Mounts": [],
    }
    if room.workspace is not None:
        host["Mounts"].append(
            {
                "Type": "bind",
                "Source": str(room.workspace),
                "Target": WORKSPACE,
                "ReadOnly": room.workspace_read_only,
                # Nothing that the host mounts there later.
                "BindOptions": {"Propagation": "rprivate"},
            }
        )
    if room.runtime is not None:
        host["Runtime"] = room.runtime
    body: dict[str, Any] = {
        "Image": room.image,
        "User": f"{uid}:{gid}",
        "WorkingDir": WORKSPACE,
        "OpenStdin": True,
        # The end of the attached connection is the end of standard input, which is the end of the runner: a container
        # does not outlive whoever made it, however that ended.
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "StopSignal": "SIGKILL",
        # What an image's author has written into HEALTHCHECK would run beside the tool.
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(room.labels),
        "HostConfig": host,
    }
    if "uts" not in off and "net" not in off:
        body["Hostname"] = "sandbox"
    return body


def _tmpfs(room: Room, places: list[str], read_only: tuple[str, ...] = ()) -> dict[str, str]:
    uid, gid = room.user
    options = f"exec,nosuid,nodev,size={room.disk_bytes},nr_inodes={_INODES},mode=0700,uid={uid},gid={gid}"
    return {place: f"{'ro' if place in read_only else 'rw'},{options}" for place in places}


def _ulimit(name: str, soft: int, hard: int | None = None) -> dict[str, Any]:
    return {"Name": name, "Soft": soft, "Hard": soft if hard is None else hard}
