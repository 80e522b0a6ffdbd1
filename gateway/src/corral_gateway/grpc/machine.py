"""How much of its memory the machine, or the container that this process is in, uses."""

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def memory_usage_percent(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> float:
    """Return the percentage; 0 where nobody tells."""
    try:
        used, most = (int((cgroup / f"memory.{name}").read_text("ascii")) for name in ("current", "max"))
    except (OSError, ValueError):  # no cgroup v2 of its own, or "max": no limit
        return _of_machine(meminfo)
    return 100 * used / most if most else 0.0


def _of_machine(meminfo: Path) -> float:
    try:
        lines = meminfo.read_text("ascii").splitlines()
        amounts = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    except (OSError, ValueError):
        return 0.0
    total, available = amounts.get("MemTotal", 0), amounts.get("MemAvailable", 0)
    return 100 * (total - available) / total if total else 0.0
