"""Whose a container is, and whether its owner is dead: for what a crash of the owner and of the daemon left behind.

A container normally ends with its owner's connection. One that was only created, or whose daemon was killed too, may
stay; the next backend of the same machine removes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OWNER_LABEL: Final = "dev.corral.owner"
_MACHINE, _BOOT, _SPACE, _PROCESS = (f"dev.corral.{name}" for name in ("machine", "boot", "pidns", "process"))


@dataclass(frozen=True, slots=True)
class OwnerProcess:
    """A process, told apart from every other that ever was."""

    #: /etc/machine-id; empty where there is none.
    machine: str
    #: /proc/sys/kernel/random/boot_id
    boot: str
    #: Its pid namespace, in which alone its number means anything.
    space: str
    pid: int
    #: Clock ticks from the boot to its start; tells it from a later one of the same number.
    started: int

    @classmethod
    def current(cls) -> "OwnerProcess":
        """Describe this process."""
        pid = int(Path("/proc/self").readlink().name)
        return cls(
            _read("/etc/machine-id"),
            _read("/proc/sys/kernel/random/boot_id"),
            str(Path("/proc/self/ns/pid").readlink()),
            pid,
            started_at(pid) or 0,
        )

    def labels(self) -> dict[str, str]:
        """Return the labels of its containers."""
        return {
            OWNER_LABEL: f"{self.boot}/{self.pid}/{self.started}",
            _MACHINE: self.machine,
            _BOOT: self.boot,
            _SPACE: self.space,
            _PROCESS: f"{self.pid}:{self.started}",
        }

    def knows_dead(self, labels: Mapping[str, str]) -> bool:
        """Whether the owner that a container's labels name is certainly dead, as this process can tell.

        Of another machine's, and of processes in another pid namespace, nothing is known.
        """
        pid, _, started = labels.get(_PROCESS, "").partition(":")
        if not pid.isdigit() or not started.isdigit() or not labels.get(_BOOT):
            return False
        if labels[_BOOT] != self.boot:
            return bool(self.machine) and labels.get(_MACHINE) == self.machine
        return labels.get(_SPACE) == self.space and started_at(int(pid)) != int(started)


def started_at(pid: int) -> int | None:
    """Return when a process started (proc_pid_stat(5), field 22), None if there is none of the number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(text[text.rfind(b")") + 2 :].split()[19])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
