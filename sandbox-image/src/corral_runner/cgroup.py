"""What the container's own cgroup tells: how many processes the kernel has killed in it for memory.

An embedded sandbox has no cgroup of its own and no /sys; there nothing is known.
"""

import os

#: Version 2 and version 1; in a container both are its own (cgroup_namespaces(7), or a bind mount).
_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class OomKills:
    """A counter that only grows. Kept open: the file is asked whenever a tool failed."""

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor = -1
        for path in _COUNTERS:
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            return

    def read(self) -> int:
        """Processes killed so far; always 0 where nobody counts."""
        if self._descriptor == -1:
            return 0
        try:
            text = os.pread(self._descriptor, 4096, 0)
        except OSError:
            return 0
        return kills_in(text)


def kills_in(text: bytes) -> int:
    """Read ``oom_kill N`` out of memory.events or memory.oom_control (the latter has it since Linux 4.13)."""
    for line in text.split(b"\n"):
        if line.startswith(b"oom_kill "):
            return int(line[9:])
    return 0
