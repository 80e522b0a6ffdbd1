"""What this process and its sandboxes hold of the machine: processes, mounts, descriptors, files, memory."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

#: Part of the command line of every runner, see corral.sandbox.bubblewrap.
_MARK = b"corral_runner.__main__"


@dataclass(frozen=True)
class Footprint:
    """Counts at one moment."""

    processes: int
    mounts: int
    descriptors: int
    temporary_files: int
    resident_megabytes: int

    @classmethod
    def now(cls) -> Self:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return cls(
            processes=len(_descendants(os.getpid())),
            mounts=len(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()),
            descriptors=len(os.listdir("/proc/self/fd")),
            temporary_files=len(os.listdir(tempfile.gettempdir())),
            resident_megabytes=int(resident.split()[1]) // 1024,
        )

    def compare(self, later: Self) -> dict[str, tuple[int, int]]:
        return {
            name.replace("_", " "): (getattr(self, name), getattr(later, name))
            for name in self.__dataclass_fields__
        }


def sandbox_runners() -> list[int]:
    """Return the process ids of the waiting sandboxes' runners: the nursery's children."""
    parents = _parents()
    marked = {pid for pid in _descendants(os.getpid()) if _MARK in _command_line(pid)}
    # bubblewrap's own two processes and the nursery carry the mark too; cells have a marked parent and no child.
    return [pid for pid in marked if parents.get(pid) in marked and pid not in parents.values()]


def own_bytes(pid: int) -> int:
    """Memory that would be free if the process ended: its private pages (smaps_rollup in proc(5))."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:
                continue
            found[int(name)] = int(text[text.rfind(b")") + 2 :].split()[1])
    return found


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
