"""The limits of one execution in plain numbers, and what each does to a process through setrlimit(2)."""

import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MIB = 1 << 20
#: No limit is larger; what the kernel counts in 64 bits has room for the sums.
_LARGEST = 1 << 48
#: Signals and POSIX timers that may be queued. The kernel's default is one number for all of a user's processes.
_PENDING_SIGNALS = 1024


class Limits:
    """Shapes and units as in docs/runner-protocol.md; a missing one takes the default here.

    Raises:
        ValueError: a limit is no number above zero; the text names it.
    """

    __slots__ = (
        "cpu",
        "cpu_seconds",
        "disk_bytes",
        "file_size_bytes",
        "idle_seconds",
        "memory_bytes",
        "open_files",
        "output_bytes",
        "processes",
        "result_bytes",
        "wall_seconds",
    )

    def __init__(self, values: "Mapping[str, Any]") -> None:
        self.cpu: float = _amount(values, "cpu", 1.0)
        self.cpu_seconds: float = _amount(values, "cpuSeconds", 60.0)
        self.memory_bytes: int = _count(values, "memoryBytes", 512 * _MIB)
        self.processes: int = _count(values, "processes", 64)
        self.disk_bytes: int = _count(values, "diskBytes", 128 * _MIB)
        self.file_size_bytes: int = _count(values, "fileSizeBytes", 64 * _MIB)
        self.open_files: int = _count(values, "openFiles", 256)
        self.output_bytes: int = _count(values, "outputBytes", _MIB)
        self.result_bytes: int = _count(values, "resultBytes", _MIB // 4)
        self.wall_seconds: float = _amount(values, "wallSeconds", 60.0)
        self.idle_seconds: float | None = None
        if values.get("idleSeconds") is not None:
            self.idle_seconds = _amount(values, "idleSeconds", 0.0)

    @property
    def data_bytes(self) -> int:
        """What one process may have in writable private mappings; see ``apply``."""
        return self.memory_bytes + self.memory_bytes // 4 + 64 * _MIB

    def apply(self, *, private_users: bool) -> None:
        """Set this process's rlimits, hard and soft; all but the one of ``apply_open_files``.

        Args:
            private_users: processes are counted per user *in the user namespace* (Linux 5.14), so in one that is
                this sandbox's alone the ceiling counts this execution alone. Elsewhere it would count every
                process of the user on the whole node, and is left to the sampler and the backend.
        """
        # The sampler ends the execution at the memory limit with the right reason. This is the wall behind it,
        # for what grows faster than the sampler looks; writable private mappings only (RLIMIT_DATA), because
        # runtimes reserve far more address space than they use.
        _set(resource.RLIMIT_DATA, self.data_bytes)
        # Past the soft limit comes SIGXCPU, which names the cause; the hard one is for who ignores it.
        cpu = max(1, int(self.cpu_seconds + 0.999))
        _set(resource.RLIMIT_CPU, cpu, cpu + 1)
        _set(resource.RLIMIT_FSIZE, self.file_size_bytes)
        _set(resource.RLIMIT_CORE, 0)
        _set(resource.RLIMIT_MEMLOCK, 64 * 1024)
        _set(resource.RLIMIT_MSGQUEUE, 0)
        _set(resource.RLIMIT_SIGPENDING, _PENDING_SIGNALS)
        # A desktop may grant its user real-time priority, for sound: enough to starve the machine.
        _set(resource.RLIMIT_RTPRIO, 0)
        _set(resource.RLIMIT_NICE, 0)
        if private_users:
            # One place for the runner, and some above the limit: whoever sits there has exceeded it, and the
            # sampler can see and name that. One would do if the kernel did not count processes for a moment longer
            # than they are to be seen.
            _set(resource.RLIMIT_NPROC, self.processes + 1 + max(4, self.processes // 8))

    def apply_open_files(self) -> None:
        """Set the ceiling of descriptors, once this process has sent its last one.

        The kernel refuses to pass a descriptor when more than this many of the *user's* are on their way
        (``too_many_unix_fds`` in net/unix/garbage.c), and another sandbox of the same user may have put them there.
        """
        _set(resource.RLIMIT_NOFILE, self.open_files)


def _set(kind: int, soft: int, hard: "int | None" = None) -> None:
    hard = soft if hard is None else hard
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _amount(values: "Mapping[str, Any]", name: str, default: float) -> float:
    value = values.get(name, default)
    if type(value) not in {int, float} or not 0 < value <= _LARGEST:
        raise ValueError(f"execution.limits.{name} is no number above 0")
    return float(value)


def _count(values: "Mapping[str, Any]", name: str, default: int) -> int:
    value = values.get(name, default)
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise ValueError(f"execution.limits.{name} is no whole number above 0")
    return value
