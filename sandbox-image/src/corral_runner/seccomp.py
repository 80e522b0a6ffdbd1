"""The system call filter: what a tool may not ask of the kernel, and how the runner learns that it asked.

Refused calls go to the runner as user notifications (seccomp_unotify(2)), so that a result can name them; where
the kernel or an outer filter does not offer that, they are refused silently. Calls that libraries only probe
are refused without a notification. Calls newer than this table do not exist for a tool.
"""

import errno
import fcntl
import os
import struct

from corral_runner import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

_ABSENT = -1

#: Refused, with a notification. Columns: x86_64, aarch64.
_REFUSED = {
    # other namespaces and file systems than the sandbox's
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, _ABSENT),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "get_kernel_syms": (177, _ABSENT),
    "query_module": (178, _ABSENT),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "iopl": (172, _ABSENT),
    "ioperm": (173, _ABSENT),
    "modify_ldt": (154, _ABSENT),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, _ABSENT),
    "ustat": (136, _ABSENT),
    "sysfs": (139, _ABSENT),
    "_sysctl": (156, _ABSENT),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # the kernel's key rings are not namespaced in full
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # other processes' memory and descriptors
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "userfaultfd": (323, 282),
    # memory that no per-process accounting sees
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
#: Refused without a word: allocators, event loops and runtimes try these and go on without.
_QUIETLY_ABSENT = {
    # its flags are behind a pointer that a filter cannot read; without it the C library falls back to clone
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),  # unmapped pages of a memory file are in no process's accounts
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
}
_CLONE = (56, 220)
_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)
_IOCTL = (16, 29)
_PERSONALITY = (135, 92)
_EXECVE = (59, 221)
_EXECVEAT = (322, 281)
#: The newest call of the table's day (file_setattr); later ones do not exist for a tool until looked at.
_NEWEST = 469

_COLUMN = 0 if kernel.MACHINE == "x86_64" else 1
_ARCH = 0xC000003E if kernel.MACHINE == "x86_64" else 0xC00000B7  # linux/audit.h

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_FAMILIES = {2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET", 38: "AF_ALG", 40: "AF_VSOCK"}
#: CLONE_NEW* of sched.h, the ones clone(2) takes.
_CLONE_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
#: As Docker's default profile: PER_LINUX, PER_LINUX32 with and without UNAME26, and the query.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# linux/seccomp.h, linux/bpf_common.h
_RET_KILL_PROCESS = 0x80000000
_RET_USER_NOTIF = 0x7FC00000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH_OFFSET = 0, 4


def _argument(index: int) -> int:
    """Offset of the low 32 bits of an argument; both machines are little-endian."""
    return 16 + 8 * index


_programs: "dict[tuple[str, bool, bool], bytes]" = {}


def program(network: "Literal['none', 'open']", *, execute: bool, notify: bool) -> bytes:
    """Return the filter for these permissions, assembled once; see ``_assemble``."""
    key = (network, execute, notify)
    if key not in _programs:
        _programs[key] = _assemble(network, execute=execute, notify=notify)
    return _programs[key]


def _assemble(network: "Literal['none', 'open']", *, execute: bool, notify: bool) -> bytes:
    """Assemble the filter.

    Args:
        network: ``none`` refuses every socket but AF_UNIX; ``open`` also lets TCP and UDP over IP be made.
        execute: whether a program may be executed.
        notify: refuse through user notifications, which the caller must then answer.

    Returns:
        An array of ``struct sock_filter``.
    """
    refuse = _RET_USER_NOTIF if notify else _RET_ERRNO | errno.EPERM
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQUAL, 1, 0, _ARCH),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
        # also x32, whose numbers start at 0x40000000
        (_JUMP_GREATER, 0, 1, _NEWEST),
        (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS),
    ]

    def check(number: tuple[int, int], body: "list[tuple[int, int, int, int]]") -> None:
        """For one call, run ``body``, which ends in a return on every path."""
        code.append((_JUMP_EQUAL, 0, len(body), number[_COLUMN]))
        code.extend(body)

    allow_or_refuse = [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, refuse)]
    check(_CLONE, [(_LOAD, 0, 0, _argument(0)), (_JUMP_ANY_BIT, 1, 0, _CLONE_NAMESPACES), *allow_or_refuse])
    families = [_AF_UNIX] if network == "none" else [_AF_UNIX, _AF_INET, _AF_INET6]
    check(_SOCKET, [(_LOAD, 0, 0, _argument(0)), *_one_of(families, refuse, raw_sockets=False)])
    check(_SOCKETPAIR, [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 1, _AF_UNIX), *allow_or_refuse])
    check(
        _IOCTL,
        [
            (_LOAD, 0, 0, _argument(1)),
            (_JUMP_EQUAL, 3, 0, _TIOCSTI),
            (_JUMP_EQUAL, 2, 0, _TIOCLINUX),
            (_JUMP_EQUAL, 1, 0, _TIOCSETD),
            *allow_or_refuse,
        ],
    )
    check(_PERSONALITY, [(_LOAD, 0, 0, _argument(0)), *_one_of(_PERSONALITIES, refuse)])
    if not execute:
        check(_EXECVE, [(_RETURN, 0, 0, refuse)])
        check(_EXECVEAT, [(_RETURN, 0, 0, refuse)])
    for numbers, action in ((_REFUSED, refuse), (_QUIETLY_ABSENT, _RET_ERRNO | errno.ENOSYS)):
        here = [row[_COLUMN] for row in numbers.values() if row[_COLUMN] != _ABSENT]
        code.extend((_JUMP_EQUAL, len(here) - index, 0, number) for index, number in enumerate(here))
        code.append((_JUMP_EQUAL, 1, 1, 0))  # none of them: past the return
        code.append((_RETURN, 0, 0, action))
    code.append((_RETURN, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _one_of(
    values: "list[int] | tuple[int, ...]", refuse: int, *, raw_sockets: bool = True
) -> "list[tuple[int, int, int, int]]":
    """Allow when the loaded word is one of the values. Without raw sockets, SOCK_STREAM and SOCK_DGRAM only."""
    if raw_sockets:
        allowed = [(_RETURN, 0, 0, _RET_ALLOW)]
    else:
        allowed = [
            (_LOAD, 0, 0, _argument(1)),
            (_AND, 0, 0, 0xF),  # the rest are SOCK_CLOEXEC and SOCK_NONBLOCK
            (_JUMP_EQUAL, 3, 0, 1),  # SOCK_STREAM
            (_JUMP_EQUAL, 2, 0, 2),  # SOCK_DGRAM
            (_JUMP_EQUAL, 1, 0, 5),  # SOCK_SEQPACKET, which only AF_UNIX has
            (_RETURN, 0, 0, refuse),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    jumps = [(_JUMP_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [*jumps, (_RETURN, 0, 0, refuse), *allowed]


_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_FLAG_NEW_LISTENER = 8


def notifications_available() -> bool:
    """Whether this kernel can hand refused calls to the runner (Linux 5.0)."""
    try:
        kernel.call("seccomp", _GET_ACTION_AVAIL, 0, struct.pack("I", _RET_USER_NOTIF))
    except OSError:
        return False
    return True


def install(code: bytes, *, notify: bool) -> "int | None":
    """Put the filter on this thread and all it will start. Needs ``no_new_privs``.

    Returns:
        The descriptor on which notifications arrive, or None without notifications.
    """
    memory = kernel.buffer(len(code))
    memory.raw = code
    header = struct.pack("HxxxxxxQ", len(code) // 8, kernel.address(memory))
    descriptor = kernel.call("seccomp", _MODE_FILTER, _FLAG_NEW_LISTENER if notify else 0, header)
    return descriptor if notify else None


# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, instruction pointer, six arguments
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_RESPONSE = struct.Struct("Qqii")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101

_NAMES = {
    row[_COLUMN]: name
    for name, row in (
        *_REFUSED.items(),
        ("clone", _CLONE),
        ("socket", _SOCKET),
        ("socketpair", _SOCKETPAIR),
        ("ioctl", _IOCTL),
        ("personality", _PERSONALITY),
        ("execve", _EXECVE),
        ("execveat", _EXECVEAT),
    )
}
#: A tool may try as many different calls as it likes; what is remembered of it is bounded.
_MAX_KINDS = 64


class Denials:
    """What the tool tried and was refused, counted by call and detail."""

    __slots__ = ("counts", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.counts: dict[tuple[str, str], int] = {}

    def answer(self) -> None:
        """Refuse one waiting call and remember it."""
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, notification)
            ident, _pid, _flags, number, _arch, _ip, first, second, *_ = _NOTIFICATION.unpack(notification)
            name = _NAMES.get(number, str(number))
            is_network = name == "socket" and first in {_AF_INET, _AF_INET6}
            code = errno.EACCES if is_network or name.startswith("exec") else errno.EPERM
            fcntl.ioctl(self.descriptor, _SEND, bytearray(_RESPONSE.pack(ident, 0, -code, 0)))
        except OSError:
            return  # the caller was killed meanwhile
        detail = ""
        if name.startswith("socket"):
            detail = _FAMILIES.get(first, f"family {first}")
        elif name == "ioctl":
            detail = hex(second & 0xFFFFFFFF)
        key = (name, detail)
        if key in self.counts or len(self.counts) < _MAX_KINDS:
            self.counts[key] = self.counts.get(key, 0) + 1

    @property
    def network(self) -> bool:
        return ("socket", "AF_INET") in self.counts or ("socket", "AF_INET6") in self.counts

    def as_json(self) -> "list[dict[str, str | int]]":
        return [
            {"syscall": name, "detail": detail, "count": count} for (name, detail), count in self.counts.items()
        ]

    def close(self) -> None:
        os.close(self.descriptor)
