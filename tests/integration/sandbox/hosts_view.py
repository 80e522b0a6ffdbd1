"""What the host sees of sandboxes: processes, mounts, descriptors, files."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_RUNNER = b"corral_runner.__main__"


def processes() -> Iterator[tuple[int, bytes]]:
    """Yield the id and the command line of every process there is."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes()
            except OSError:
                continue


def with_marker(marker: str) -> list[int]:
    """Return the processes whose command line holds a text; those of sandboxes too."""
    return [pid for pid, command in processes() if marker.encode() in command]


def parent_of(pid: int) -> int:
    """Return the parent's id, 0 if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(text[text.rfind(b")") + 2 :].split()[1])


def below(ancestor: int) -> set[int]:
    """Return all living descendants of a process."""
    parents = {pid: parent_of(pid) for pid, _ in processes()}
    found: set[int] = set()
    waiting = {ancestor}
    while waiting:
        waiting = {pid for pid, parent in parents.items() if parent in waiting}
        found |= waiting
    return found


def runners_below(ancestor: int) -> set[int]:
    """Return the processes of a runner, or of a nursery, below a process."""
    commands = dict(processes())
    return {pid for pid in below(ancestor) if _RUNNER in commands.get(pid, b"")}


@dataclass(frozen=True)
class Footprint:
    """What may not grow."""

    processes: frozenset[int]
    descriptors: int
    mounts: frozenset[str]
    files: frozenset[str]


def footprint() -> Footprint:
    """Look at this process, and at the machine's mounts and temporary files."""
    return Footprint(
        frozenset(below(os.getpid())),
        len(os.listdir("/proc/self/fd")),
        frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        frozenset(name for name in os.listdir(tempfile.gettempdir()) if not name.startswith("pytest")),
    )
