"""What the processes of an execution use, read from /proc (proc_pid_stat(5), smaps_rollup)."""

import os

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: net.core.wmem_default; a tool may not set it.
_SOCKET_BUFFER_BYTES = 212992

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Sample:
    """One look at every process of the sandbox but the runner."""

    __slots__ = ("cpu_seconds", "mapped_bytes", "pids", "resident_bytes", "tasks")

    def __init__(self) -> None:
        #: Those that live; with what each has resident.
        self.pids: dict[int, int] = {}
        #: Processes and threads, with those that have ended and were not waited for.
        self.tasks = 0
        #: Sum over processes; pages that two share count twice.
        self.resident_bytes = 0
        #: Sum over processes of the address space, touched or not.
        self.mapped_bytes = 0
        #: Of these processes and the children they have waited for.
        self.cpu_seconds = 0.0


def sample(own_pid: int, only_session: "int | None" = None) -> Sample:
    """Look once.

    Args:
        own_pid: the runner's, left out.
        only_session: where the runner shares its process namespace, count only this session's processes.
    """
    found = Sample()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == own_pid:
            continue
        try:
            descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                text = os.read(descriptor, 1024)
            finally:
                os.close(descriptor)
        except OSError:
            continue  # gone meanwhile
        # The command name, in parentheses, may hold anything; fields are counted behind its end.
        fields = text[text.rfind(b")") + 2 :].split()
        if only_session is not None and int(fields[3]) != only_session:
            continue
        found.tasks += int(fields[17])
        found.cpu_seconds += sum(int(field) for field in fields[11:15]) / _TICKS_PER_SECOND
        if fields[0] in {b"Z", b"X"}:
            continue
        resident = int(fields[21]) * PAGE_BYTES
        found.pids[int(name)] = resident
        found.resident_bytes += resident
        found.mapped_bytes += int(fields[20])
    return found


def hidden_bytes(pids: "Iterable[int]") -> int:
    """Memory that a process takes and its resident set does not show: page tables, and what was swapped out."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith((b"VmPTE", b"VmSwap")))
        except OSError:
            continue
    return 1024 * total


def proportional_bytes(pids: "Mapping[int, int]") -> int:
    """Memory of the processes with every shared page counted once in all, without clean file pages.

    Costs the kernel a walk of every page table, so it is asked only when the cheap sum is over the limit.

    Args:
        pids: with what each has resident, which counts for those that do not let the runner look.
    """
    total = hidden_bytes(pids)
    for pid, resident in pids.items():
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                values = dict(line.split()[:2] for line in file if line.startswith(b"Pss"))
        except PermissionError:
            total += resident
            continue
        except OSError:
            continue
        if b"Pss_Anon:" in values:  # Linux 5.4
            total += 1024 * (int(values[b"Pss_Anon:"]) + int(values[b"Pss_Shmem:"]))
        else:
            total += 1024 * int(values.get(b"Pss:", 0))
    return total


def socket_bytes() -> int:
    """What the buffers of all sockets in this network namespace may hold at most.

    No process's accounts show them. A socket that was closed with data on the way still counts.
    """
    try:
        with open("/proc/net/sockstat", "rb") as file:
            return int(file.readline().split()[2]) * _SOCKET_BUFFER_BYTES
    except (OSError, IndexError, ValueError):
        return 0


class WriteMeter:
    """How many bytes the children of this process have passed to write(2) and its kin.

    /proc/PID/io holds this process and the children it has waited for, /proc/PID/task/TID/io this thread alone.
    Both are opened early: once the runner is not dumpable, they belong to root.
    """

    __slots__ = ("_all", "_own")

    def __init__(self) -> None:
        try:
            self._all = os.open("/proc/self/io", os.O_RDONLY | os.O_CLOEXEC)
            self._own = os.open("/proc/thread-self/io", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without the accounting
            self._all = self._own = -1

    def read(self) -> "int | None":
        """Bytes so far, None where the kernel does not count them."""
        if self._own == -1:
            return None
        return _written(self._all) - _written(self._own)


def _written(descriptor: int) -> int:
    for line in os.pread(descriptor, 1024, 0).split(b"\n"):
        if line.startswith(b"wchar:"):
            return int(line[6:])
    return 0
