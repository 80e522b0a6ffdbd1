"""The calls that the filter hands to the runner: refused and counted, or looked at and let through."""

import errno
import fcntl
import struct
import time

from corral_runner.procfs import PAGE_BYTES
from corral_runner.syscalls import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.limits import Limits

# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, instruction pointer, six arguments
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, error, flags
_RESPONSE = struct.Struct("QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_MAP_SHARED = 1

_AF_INET, _AF_INET6 = 2, 10
_FAMILIES = {2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET", 38: "AF_ALG", 40: "AF_VSOCK"}
#: A tool may try as many different calls as it likes; what is remembered of it is bounded.
_MOST_KINDS = 64
#: Answering costs the runner some 20 µs: a tenth of its time at most. Far more than a tool asks that does not flood.
_ANSWERS_PER_SECOND, _ANSWERS_AT_ONCE = 5000.0, 1000.0


class Denials:
    """What the tool tried and was refused, counted by call and detail."""

    __slots__ = (
        "_answered_at",
        "_answers_left",
        "_limits",
        "_shared_bytes",
        "counts",
        "descriptor",
        "memory_refused",
    )

    def __init__(self, descriptor: int, limits: "Limits") -> None:
        self.descriptor = descriptor
        self._limits = limits
        self._answers_left = _ANSWERS_AT_ONCE
        self._answered_at = time.monotonic()
        self._shared_bytes = 0
        self.counts: dict[tuple[str, str], int] = {}
        #: A mapping was refused, here or by the kernel, because it would have exceeded the memory limit.
        self.memory_refused = False

    @property
    def floods(self) -> bool:
        """Whether the tool asks more than the runner should answer before it does something else."""
        return self._answers_left < 1

    def answer(self) -> None:
        """Answer one waiting call."""
        now = time.monotonic()
        earned = (now - self._answered_at) * _ANSWERS_PER_SECOND
        self._answers_left = min(self._answers_left + earned, _ANSWERS_AT_ONCE) - 1
        self._answered_at = now
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, notification)
            ident, pid, _flags, number, _arch, _ip, *arguments = _NOTIFICATION.unpack(notification)
            name = NAMES.get(number, str(number))
            code = self._decide(name, pid, arguments)
            response = _RESPONSE.pack(ident, 0, -code, 0 if code else _CONTINUE)
            fcntl.ioctl(self.descriptor, _SEND, bytearray(response))
        except OSError:
            return  # the caller was killed meanwhile
        if code in {errno.EPERM, errno.EACCES}:
            self._remember(name, arguments)

    @property
    def network(self) -> bool:
        return ("socket", "AF_INET") in self.counts or ("socket", "AF_INET6") in self.counts

    @property
    def execution(self) -> bool:
        return any(name.startswith("exec") for name, _detail in self.counts)

    def as_json(self) -> "list[dict[str, str | int]]":
        return [
            {"syscall": name, "detail": detail, "count": count}
            for (name, detail), count in self.counts.items()
        ]

    def _remember(self, name: str, arguments: "list[int]") -> None:
        detail = ""
        if name.startswith("socket"):
            family = arguments[0] & 0xFFFFFFFF
            detail = _FAMILIES.get(family, f"family {family}")
        elif name == "ioctl":
            detail = hex(arguments[1] & 0xFFFFFFFF)
        key = (name, detail)
        if key in self.counts or len(self.counts) < _MOST_KINDS:
            self.counts[key] = self.counts.get(key, 0) + 1

    def _decide(self, name: str, pid: int, arguments: "list[int]") -> int:
        """Return the error that a call gets, 0 to let the kernel do it.

        What is decided on is in registers, so nobody can change it behind the decision.
        """
        if name == "mmap":
            return self._mapping(pid, length=arguments[1], flags=arguments[3])
        is_network = name == "socket" and arguments[0] & 0xFFFFFFFF in {_AF_INET, _AF_INET6}
        return errno.EACCES if is_network or name.startswith("exec") else errno.EPERM

    def _mapping(self, pid: int, *, length: int, flags: int) -> int:
        """Decide on a mapping.

        Shared memory counts for ever, whether it is still mapped or not: nothing tells the runner when its pages
        go. A private mapping is the kernel's to refuse (RLIMIT_DATA); here it is foreseen, for the result.
        """
        if flags & _MAP_SHARED:
            if self._shared_bytes + length > self._limits.memory_bytes:
                self.memory_refused = True
                return errno.ENOMEM
            self._shared_bytes += length
        elif _data_bytes(pid) + length > self._limits.data_bytes:
            self.memory_refused = True
        return 0


def _data_bytes(pid: int) -> int:
    """What RLIMIT_DATA counts of a process, 0 if it cannot be seen."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            # proc_pid_statm(5): the sixth number is data and stack, in pages
            return int(file.read().split()[5]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
