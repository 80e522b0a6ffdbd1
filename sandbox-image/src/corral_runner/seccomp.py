"""The system call filter: what a tool may not ask of the kernel.

Refused calls go to the runner as user notifications (seccomp_unotify(2), see ``denials``), so that a result can name
them; where the kernel or an outer filter does not offer that, they are refused silently. Calls that libraries only
probe are refused without a notification. Calls newer than the table do not exist for a tool.
"""

import errno
import struct

from corral_runner import kernel
from corral_runner.syscalls import EXAMINED, NEWEST, QUIETLY_ABSENT, REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, TypeAlias

    #: code, jump if true, jump if false, operand: struct sock_filter of linux/filter.h
    Instruction: TypeAlias = "tuple[int, int, int, int]"

_ARCH = 0xC000003E if kernel.MACHINE == "x86_64" else 0xC00000B7  # linux/audit.h

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
#: Of a socket: whatever its family's default is, TCP, UDP. Others load kernel modules that hardly anyone tests.
_PROTOCOLS = (0, 6, 17)
#: CLONE_NEW* of sched.h, the ones clone(2) takes.
CLONE_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
#: As Docker's default profile: PER_LINUX, PER_LINUX32 with and without UNAME26, and the query.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# asm-generic/mman.h
_PROT_WRITE = 0x2
_MAP_TYPE_OR_ANONYMOUS, _MAP_PRIVATE_ANONYMOUS, _MAP_SHARED_ANONYMOUS, _MAP_HUGETLB = (
    0x2F,
    0x22,
    0x21,
    0x40000,
)
#: The runner's process id, and its group's, wherever tools run that are not trusted. It has the user of its tool, and
#: the kernel lets a process change the limits and the priority of another of its user.
_RUNNER = 1
_ON_A_PROCESS = ("prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler")
#: Their first argument says what the second one is; with this value it is a user (PRIO_USER, IOPRIO_WHO_USER).
_ON_SEVERAL = {"setpriority": 2, "ioprio_set": 3}
#: A private mapping of this size or more is shown to the runner, so that a result can tell when it was one too many.
LARGE_MAPPING_BYTES = 16 << 20

# linux/seccomp.h, linux/bpf_common.h
_RET_KILL_PROCESS = 0x80000000
_RET_USER_NOTIF = 0x7FC00000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x15, 0x25, 0x35, 0x45
_NR, _ARCH_OFFSET = 0, 4

_ALLOW: "Instruction" = (_RETURN, 0, 0, _RET_ALLOW)


def _argument(index: int, *, high: bool = False) -> int:
    """Offset of the low or high 32 bits of an argument; both machines are little-endian."""
    return 16 + 8 * index + 4 * high


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
    refuse: Instruction = (_RETURN, 0, 0, _RET_USER_NOTIF if notify else _RET_ERRNO | errno.EPERM)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQUAL, 1, 0, _ARCH),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
        # also x32, whose numbers start at 0x40000000
        (_JUMP_GREATER, 0, 1, NEWEST),
        (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS),
    ]

    def check(name: str, body: "list[Instruction]") -> None:
        """For one call, run ``body``, which ends in a return on every path."""
        code.append((_JUMP_EQUAL, 0, len(body), EXAMINED[name]))
        code.extend(body)

    tell: Instruction = (_RETURN, 0, 0, _RET_USER_NOTIF if notify else _RET_ALLOW)
    allow_or_refuse = [_ALLOW, refuse]
    check("clone", [(_LOAD, 0, 0, _argument(0)), (_JUMP_ANY_BIT, 0, 1, CLONE_NAMESPACES), refuse, _ALLOW])
    families = [_AF_UNIX] if network == "none" else [_AF_UNIX, _AF_INET, _AF_INET6]
    check("socket", _socket(families, refuse))
    check("socketpair", [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 1, _AF_UNIX), *allow_or_refuse])
    terminal = (_TIOCSTI, _TIOCLINUX, _TIOCSETD)
    check("ioctl", [(_LOAD, 0, 0, _argument(1)), *_if_one_of(terminal, [refuse]), _ALLOW])
    check("personality", [(_LOAD, 0, 0, _argument(0)), *_if_one_of(_PERSONALITIES, [_ALLOW]), refuse])
    check("mmap", _mapping(tell))
    for name in _ON_A_PROCESS:
        check(name, [(_LOAD, 0, 0, _argument(0)), *_if_one_of([_RUNNER], [refuse]), _ALLOW])
    for name, whole_user in _ON_SEVERAL.items():
        by_user = [(_LOAD, 0, 0, _argument(0)), *_if_one_of([whole_user], [refuse]), _ALLOW]
        check(name, [(_LOAD, 0, 0, _argument(1)), *_if_one_of([_RUNNER], [refuse]), *by_user])
    if not execute:
        check("execve", [refuse])
        check("execveat", [refuse])
    code += _if_one_of(REFUSED.values(), [refuse])
    code += _if_one_of(QUIETLY_ABSENT.values(), [(_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS)])
    code.append(_ALLOW)
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _if_one_of(values: "Iterable[int]", then: "list[Instruction]") -> "list[Instruction]":
    """Run ``then``, which must return, if the loaded word is one of the values; go on behind it otherwise."""
    wanted = list(values)
    jumps = [(_JUMP_EQUAL, len(wanted) - 1 - index, 0, value) for index, value in enumerate(wanted)]
    jumps[-1] = (_JUMP_EQUAL, 0, len(then), wanted[-1])
    return [*jumps, *then]


def _socket(families: "list[int]", refuse: "Instruction") -> "list[Instruction]":
    """Allow stream, datagram and packet sockets of the families, with their common protocols; no raw ones."""
    types = (1, 2, 5)  # SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, which only AF_UNIX has
    protocol = [(_LOAD, 0, 0, _argument(2)), *_if_one_of(_PROTOCOLS, [_ALLOW]), refuse]
    kind = [
        (_LOAD, 0, 0, _argument(1)),
        (_AND, 0, 0, 0xF),  # the rest are SOCK_CLOEXEC and SOCK_NONBLOCK
        *_if_one_of(types, protocol),
        refuse,
    ]
    return [(_LOAD, 0, 0, _argument(0)), *_if_one_of(families, kind), refuse]


def _mapping(tell: "Instruction") -> "list[Instruction]":
    """Look at mappings of memory that the accounts of processes would not show, or not in time.

    Pages of a shared anonymous mapping stay when they are unmapped, and then belong to no process, so the runner
    counts what is asked for. Huge pages are a reserve that the machine's owner has set aside for somebody else.
    """
    large = [
        (_LOAD, 0, 0, _argument(1, high=True)),
        (_JUMP_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _argument(1)),
        (_JUMP_AT_LEAST, 1, 0, LARGE_MAPPING_BYTES),
        _ALLOW,
        tell,
    ]
    writable = [(_LOAD, 0, 0, _argument(2)), (_JUMP_ANY_BIT, 1, 0, _PROT_WRITE), _ALLOW, *large]
    return [
        (_LOAD, 0, 0, _argument(3)),
        (_JUMP_ANY_BIT, 0, 1, _MAP_HUGETLB),
        (_RETURN, 0, 0, _RET_ERRNO | errno.ENOMEM),
        (_AND, 0, 0, _MAP_TYPE_OR_ANONYMOUS),
        *_if_one_of([_MAP_SHARED_ANONYMOUS], [tell]),
        *_if_one_of([_MAP_PRIVATE_ANONYMOUS], writable),
        _ALLOW,
    ]


_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_FLAG_NEW_LISTENER = 8
#: Linux 5.19. Without it any signal with a handler ends the wait for the answer, and mmap says EINTR, which it never
#: does otherwise. (For the same reason no call is told that programs make while signals are common, such as clone: a
#: shell that starts a pipeline is told of a child's end while it forks the next.)
_FLAG_WAIT_KILLABLE = 32


def available() -> bool:
    """Whether this kernel can filter system calls."""
    return _has_action(_RET_ERRNO)


def notifications_available() -> bool:
    """Whether this kernel can hand refused calls to the runner (Linux 5.0)."""
    return _has_action(_RET_USER_NOTIF)


def _has_action(action: int) -> bool:
    try:
        kernel.call("seccomp", _GET_ACTION_AVAIL, 0, struct.pack("I", action))
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
    if not notify:
        kernel.call("seccomp", _MODE_FILTER, 0, header)
        return None
    try:
        return kernel.call("seccomp", _MODE_FILTER, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE, header)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return kernel.call("seccomp", _MODE_FILTER, _FLAG_NEW_LISTENER, header)
