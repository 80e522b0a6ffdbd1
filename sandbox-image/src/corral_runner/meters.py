"""What an execution uses while it runs: memory, CPU time, processes, disk; and who goes over a limit.

The kernel counts none of this for a group of processes without a cgroup, so the runner looks every few milliseconds.
"""

import os
import resource
import time

from corral_runner import procfs
from corral_runner.processes import SIGCONT, SIGSTOP, Processes
from corral_runner.verdict import Stop, exceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.cgroup import OomKills
    from corral_runner.disk import Disk
    from corral_runner.execution import Execution
    from corral_runner.settings import Settings
    from corral_runner.streams import Output

_FIRST_SECONDS, _SOON_SECONDS, _LATER_SECONDS = 0.004, 0.010, 0.020
#: While more than half of the processes allowed are there: a bomb of shells fizzles out in milliseconds.
_CROWDED_SECONDS = 0.002
_LATER_AFTER_SECONDS = 1.0
#: What costs more is looked at so often.
_SLOWLY_SECONDS = 0.25
#: Looking at many processes takes long; at most one part in this many of the time is spent on it.
_PART = 5
#: CPU time a tool may use ahead of its rate before it is stopped for a while, and while it is stopped.
_CPU_BURST_SECONDS = 0.1


class Meters:
    """The meters of one execution."""

    def __init__(
        self,
        execution: "Execution",
        settings: "Settings",
        *,
        processes: Processes,
        written: procfs.WriteMeter,
        disk: "Disk",
        oom_kills: "OomKills",
    ) -> None:
        self._limits = execution.limits
        self._sampling = settings.holds("sampling")
        self._processes = processes
        self._written = written
        self._disk = disk
        self._oom_kills = oom_kills
        self._oom_kills_before = oom_kills.read()
        # Where the network is open the backend's cgroup counts them, and the namespace may be shared.
        self._counts_sockets = execution.network == "none" and bool(settings.file_systems)
        #: The most processes and threads at once.
        self.peak_tasks = self._tasks = 1
        self._peak_bytes = 0
        self._cpu_before = _children_cpu_seconds()
        self._cpu_seen = self._cpu_lost = 0.0
        self._written_before = written.read()
        self._hidden_bytes = self._socket_bytes = 0
        self._may_pause = True
        self._paused_until: float | None = None
        self._cpu_at_pause = 0.0

    def begin(self, pid: int, now: float) -> None:
        """Start with the tool's process."""
        self._pid = pid
        self._started = now
        self._next = now + _FIRST_SECONDS
        self._next_slow = now + _SLOWLY_SECONDS

    @property
    def next_wake(self) -> float:
        return self._next if self._paused_until is None else min(self._next, self._paused_until)

    def due(self, now: float) -> bool:
        return now >= self.next_wake

    def look(self, now: float) -> "Stop | None":
        """Look at everything once; returns the limit that is exceeded, if any is."""
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
            self._processes.signal(SIGCONT)
        stop = self._sample(now) if self._sampling else None
        after = time.monotonic()
        if self._tasks > self._limits.processes // 2:
            self._next = after + max(_CROWDED_SECONDS, (_PART - 1) * (after - now))
            return stop
        base = _LATER_SECONDS if after - self._started > _LATER_AFTER_SECONDS else _SOON_SECONDS
        self._next = after + max(base, (_PART - 1) * (after - now))
        return stop

    def last_look(self) -> None:
        """Look at what a tool that failed leaves behind: where it started too many, they are still there."""
        if self._sampling:
            self._count()
        self._disk.exceeded(time.monotonic())

    def kernel_killed(self) -> bool:
        """Whether the kernel has killed a process of the sandbox for the memory of its cgroup."""
        return self._oom_kills.read() > self._oom_kills_before

    def stop_pausing(self) -> None:
        self._may_pause = False
        self._paused_until = None

    def usage(self, output: "Output") -> "dict[str, Any]":
        """Return the ``usage`` of a result."""
        # The kernel's own high-water mark of the largest process catches what lies between two samples; it is
        # the largest over this runner's life, so in a session it can only be used for the first execution.
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        written = self._written.read()
        if written is not None and self._written_before is not None:
            written = max(0, written - self._written_before - output.printed_bytes)
        return {
            "cpuSeconds": round(_children_cpu_seconds() - self._cpu_before + self._cpu_lost, 6),
            "peakMemoryBytes": max(self._peak_bytes, largest),
            "peakProcesses": self.peak_tasks,
            "wallSeconds": round(time.monotonic() - self._started, 6),
            "outputBytes": output.kept_bytes,
            "writtenBytes": written,
        }

    def _sample(self, now: float) -> "Stop | None":
        self._processes.reap_orphans(self._pid)
        found = self._count()
        self._peak_bytes = max(self._peak_bytes, found.resident_bytes)
        if now >= self._next_slow:
            self._next_slow = now + _SLOWLY_SECONDS
            self._hidden_bytes = procfs.hidden_bytes(found.pids)
            self._socket_bytes = procfs.socket_bytes() if self._counts_sockets else 0
        limits = self._limits
        if found.tasks > limits.processes:
            return exceeded(
                "ProcessLimit", "processes", limits.processes, "count", "sampler and RLIMIT_NPROC"
            )
        if self._disk.exceeded(now):
            return exceeded("DiskLimit", "disk", limits.disk_bytes, "bytes", "sampler")
        if self._over_memory(found):
            return exceeded("OutOfMemory", "memory", limits.memory_bytes, "bytes", "sampler")
        return self._cpu(found, now)

    def _count(self) -> procfs.Sample:
        found = procfs.sample(os.getpid(), None if self._processes.alone else self._pid)
        self._tasks = found.tasks
        self.peak_tasks = max(self.peak_tasks, found.tasks)
        return found

    def _over_memory(self, found: procfs.Sample) -> bool:
        limit = self._limits.memory_bytes
        # A page table of 4 KiB maps 2 MiB, and is no part of what is resident.
        hidden = max(self._hidden_bytes, found.mapped_bytes // 512)
        if found.resident_bytes + hidden + self._socket_bytes <= limit:
            return False
        return procfs.proportional_bytes(found.pids) + self._socket_bytes > limit

    def _cpu(self, found: procfs.Sample, now: float) -> "Stop | None":
        limits = self._limits
        seen = found.cpu_seconds + _children_cpu_seconds() - self._cpu_before
        # A process whose parent ignores SIGCHLD takes its account along when it ends.
        self._cpu_lost += max(0.0, self._cpu_seen - seen)
        self._cpu_seen = seen
        used = seen + self._cpu_lost
        if used > limits.cpu_seconds:
            return exceeded("CPULimit", "cpuTime", limits.cpu_seconds, "seconds", "sampler and RLIMIT_CPU")
        if self._paused_until is not None:
            # Whoever is stopped uses no time, unless a timer of its own sends it SIGCONT.
            if used - self._cpu_at_pause > _CPU_BURST_SECONDS:
                return exceeded("CPULimit", "cpu", limits.cpu, "cores", "sampler; the tool undid its SIGSTOP")
            return None
        ahead = used - limits.cpu * (now - self._started) - _CPU_BURST_SECONDS
        if ahead > 0 and self._may_pause:
            self._processes.signal(SIGSTOP)
            self._paused_until = now + ahead / limits.cpu
            self._cpu_at_pause = used
        return None


def _children_cpu_seconds() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime
