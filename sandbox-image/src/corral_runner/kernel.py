"""System calls that Python 3.11's standard library does not offer, through ``_ctypes`` alone.

``import ctypes`` costs a cold start 4 ms, of which one class and one call are needed; the C module behind it
costs 0.4 ms. Everything here goes through ``syscall(2)`` by number, for the two machines that Corral supports.
"""

import _ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MACHINES = {
    # name: x86_64, aarch64 (asm/unistd_64.h, asm-generic/unistd.h)
    "capset": (126, 91),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "mount": (165, 40),
    "openat2": (437, 437),
    "pidfd_open": (434, 434),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "sethostname": (170, 161),
    "signalfd4": (289, 74),
    "umount2": (166, 39),
    "unshare": (272, 97),
}
MACHINE = os.uname().machine
if MACHINE not in {"x86_64", "aarch64"} or sys.maxsize < 2**32:
    raise OSError(f"the sandbox runner knows x86_64 and aarch64 in 64-bit mode, this machine is {MACHINE}")
_COLUMN = 0 if MACHINE == "x86_64" else 1
NUMBER = {name: row[_COLUMN] for name, row in _MACHINES.items()}


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001
    _type_ = "c"


class _Syscall(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _SyscallHoldingTheLock(_ctypes.CFuncPtr):
    """For a call that returns twice: the child must own the interpreter lock that the parent held."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = _Long


class _Hook(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = None


_process = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
_syscall = _Syscall(_ctypes.dlsym(_process, "syscall"))
_syscall_holding_the_lock = _SyscallHoldingTheLock(_ctypes.dlsym(_process, "syscall"))
_before_fork = _Hook(_ctypes.dlsym(_process, "PyOS_BeforeFork"))
_after_fork_parent = _Hook(_ctypes.dlsym(_process, "PyOS_AfterFork_Parent"))
_after_fork_child = _Hook(_ctypes.dlsym(_process, "PyOS_AfterFork_Child"))


def call(name: str, *args: "int | bytes | Any | None") -> int:
    """Make the system call.

    Args:
        name: a key of ``NUMBER``.
        *args: numbers, bytes for a pointer to constant data (NUL-terminated by CPython), a ``buffer`` for a
            pointer to data the kernel writes, None for a null pointer.

    Returns:
        What the kernel returned.

    Raises:
        OSError: with the errno, the call's name in place of a file name.
    """
    # A bare int would be passed as a 32-bit C int.
    words = [_Long(arg) if isinstance(arg, int) else _Long(0) if arg is None else arg for arg in args]
    result: int = _syscall(_Long(NUMBER[name]), *words)
    if result < 0:
        code = _ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


def buffer(size: int) -> "Any":
    """Memory of ``size`` zero bytes that a system call may write; its content is ``.raw``."""
    return (_Char * size)()


def address(data: "Any") -> int:
    """The address of a ``buffer``, for structures that hold pointers. Keep the buffer alive meanwhile."""
    return _ctypes.addressof(data)


def overwrite(start: int, size: int) -> None:
    """Fill memory of this process with zeros, whatever lies there."""
    memory: Any = (_Char * size).from_address(start)
    memory.raw = bytes(size)


# sched.h
_CLONE_PIDFD = 0x00001000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# sys/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

# linux/prctl.h
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    call("prctl", option, value, 0, 0, 0)


def mount(source: str, target: str, kind: "str | None", flags: int, options: "str | None" = None) -> None:
    call(
        "mount",
        source.encode(),
        target.encode(),
        None if kind is None else kind.encode(),
        flags,
        None if options is None else options.encode(),
    )


def fork_into_namespaces(namespaces: int) -> "tuple[int, int]":
    """Fork a child that is born in new namespaces, as pid 1 where a pid namespace is among them.

    ``os.fork`` and ``unshare`` would need a process between the two, and a fork costs 0.4 ms. This does what
    ``os.fork`` does around the system call (Python's C API, ``PyOS_BeforeFork`` and its kin); the caller must have
    a single thread.

    Args:
        namespaces: CLONE_NEW… flags.

    Returns:
        (0, -1) in the child; its process id and a pidfd in the caller.

    Raises:
        OSError: in the caller, when the kernel refuses.
    """
    pidfd = buffer(4)
    words = (namespaces | _CLONE_PIDFD, address(pidfd), 0, 0, 17, 0, 0, 0)  # SIGCHLD; struct clone_args
    arguments = buffer(8 * len(words))
    arguments.raw = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
    _before_fork()
    pid: int = _syscall_holding_the_lock(_Long(NUMBER["clone3"]), arguments, _Long(8 * len(words)))
    if pid == 0:
        _after_fork_child()
        return 0, -1
    _after_fork_parent()
    if pid < 0:
        code = _ctypes.get_errno()
        raise OSError(code, os.strerror(code), "clone3")
    return pid, int.from_bytes(pidfd.raw, sys.byteorder)


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets of this process, for ever (capset(2), version 3)."""
    header = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
    call("capset", header, bytes(24))


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` on, close-on-exec or not."""
    try:
        call("close_range", first, 0xFFFFFFFF, 0)
    except OSError:  # before Linux 5.9
        os.closerange(first, 65536)


# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a directory without following any symbolic link or leaving it, atomically.

    Raises:
        OSError: ELOOP for a symbolic link on the way, EXDEV for a path that leads out.
    """
    how = b"".join(
        part.to_bytes(8, sys.byteorder)
        for part in (
            flags | os.O_CLOEXEC,
            mode,
            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        )
    )
    return call("openat2", directory, os.fsencode(path), how, len(how))
