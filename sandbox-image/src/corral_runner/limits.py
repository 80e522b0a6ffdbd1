"""The limits of one execution in plain numbers, and what each does to a process through setrlimit(2)."""

import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MIB = 1 << 20


class Limits:
    """Shapes and units as in docs/runner-protocol.md; a missing one takes the default here."""

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
        self.cpu: float = values.get("cpu", 1.0)
        self.cpu_seconds: float = values.get("cpuSeconds", 60.0)
        self.memory_bytes: int = values.get("memoryBytes", 512 * _MIB)
        self.processes: int = values.get("processes", 64)
        self.disk_bytes: int = values.get("diskBytes", 128 * _MIB)
        self.file_size_bytes: int = values.get("fileSizeBytes", 64 * _MIB)
        self.open_files: int = values.get("openFiles", 256)
        self.output_bytes: int = values.get("outputBytes", _MIB)
        self.result_bytes: int = values.get("resultBytes", _MIB // 4)
        self.wall_seconds: float = values.get("wallSeconds", 60.0)
        self.idle_seconds: float | None = values.get("idleSeconds")

    def apply(self, *, own_user_namespace: bool) -> None:
        """Set this process's rlimits, hard and soft.

        Args:
            own_user_namespace: processes are counted per user *in the user namespace* (Linux 5.14), so in a
                fresh one the ceiling counts this execution alone. Elsewhere it would count every process of
                the user on the whole node, and is left to the sampler and the backend.
        """
        # The sampler ends the execution at the memory limit with the right reason. This is the wall behind it,
        # for what grows faster than the sampler looks; writable private mappings only (RLIMIT_DATA), because
        # runtimes reserve far more address space than they use.
        data = self.memory_bytes + self.memory_bytes // 4 + 64 * _MIB
        # Past the soft limit comes SIGXCPU, which names the cause; the hard one is for who ignores it.
        cpu = max(1, int(self.cpu_seconds + 0.999))
        wanted = [
            (resource.RLIMIT_DATA, data, data),
            (resource.RLIMIT_CPU, cpu, cpu + 1),
            (resource.RLIMIT_FSIZE, self.file_size_bytes, self.file_size_bytes),
            (resource.RLIMIT_NOFILE, self.open_files, self.open_files),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 64 * 1024, 64 * 1024),
            (resource.RLIMIT_MSGQUEUE, 0, 0),
        ]
        if own_user_namespace:
            # One place for the runner, and one above the limit: whoever sits there has exceeded it, and the
            # sampler can see and name that.
            wanted.append((resource.RLIMIT_NPROC, self.processes + 2, self.processes + 2))
        for kind, soft, hard in wanted:
            ceiling = resource.getrlimit(kind)[1]
            if ceiling != resource.RLIM_INFINITY:
                soft, hard = min(soft, ceiling), min(hard, ceiling)
            resource.setrlimit(kind, (soft, hard))
