"""What code in the sandbox finds: Python, platform, limits, commands, names of environment variables."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: What scripts ask for first; others can be looked for with the shell tool.
COMMANDS = (
    "ash", "awk", "bash", "bzip2", "cargo", "cc", "cmake", "curl", "diff", "ffmpeg", "file", "find",
    "g++", "gawk", "gcc", "git", "go", "grep", "gzip", "java", "jq", "lua", "make", "node", "npm",
    "openssl", "patch", "perl", "php", "pip", "psql", "python", "python3", "ruby", "rustc", "sed", "sh",
    "sqlite3", "ssh", "tar", "unzip", "uv", "wget", "xz", "zip", "zsh", "zstd",
)  # fmt: skip
_CGROUP = "/sys/fs/cgroup"


def run(_arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """Values of environment variables are left out: secrets are among them."""
    system = os.uname()
    allowed: list[JSON] = [*context.allowed_paths]
    variables: list[JSON] = [*sorted(name for name in os.environ if name.isascii())]
    return {
        "python": {
            "version": ".".join(str(part) for part in sys.version_info[:3]),
            "implementation": sys.implementation.name,
            "executable": sys.executable,
        },
        "platform": {"system": system.sysname, "release": system.release, "machine": system.machine},
        "user": {"uid": os.getuid(), "gid": os.getgid()},
        "workspace": {
            "path": context.workspace,
            "allowed_paths": allowed,
            "free_bytes": _free_bytes(context.workspace),
        },
        "environment_variables": variables,
        "limits": _limits(),
        "commands": _commands(),
    }


def _limits() -> "dict[str, JSON]":
    """The limits as this process sees them; null where there is none."""
    import resource

    rlimits = {
        "address_space_bytes": resource.RLIMIT_AS,
        "data_bytes": resource.RLIMIT_DATA,
        "cpu_seconds": resource.RLIMIT_CPU,
        "file_size_bytes": resource.RLIMIT_FSIZE,
        "open_files": resource.RLIMIT_NOFILE,
        "processes": resource.RLIMIT_NPROC,
    }
    limits: dict[str, JSON] = {}
    for name, number in rlimits.items():
        soft = resource.getrlimit(number)[0]
        limits[name] = None if soft == resource.RLIM_INFINITY else soft
    limits["cgroup_memory_bytes"] = _cgroup_number("memory.max")
    limits["cgroup_processes"] = _cgroup_number("pids.max")
    limits["cpus"] = len(os.sched_getaffinity(0))
    return limits


def _cgroup_number(file: str) -> int | None:
    """A limit of the control group, which a sandbox may not show (cgroups(7)); ``max`` is none."""
    try:
        with open(f"{_CGROUP}/{file}", encoding="ascii") as opened:
            return int(opened.read())
    except (OSError, ValueError):
        return None


def _free_bytes(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _commands() -> "dict[str, JSON]":
    import shutil

    return {name: path for name in COMMANDS if (path := shutil.which(name))}
