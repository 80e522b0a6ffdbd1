"""Landlock: which paths a tool may read, write and execute, whatever else the file system offers.

See Documentation/userspace-api/landlock.rst; the rights are those of linux/landlock.h.
"""

import os
import stat
import struct

from corral_runner import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_IOCTL_DEVICE = 1 << 15  # ABI 5
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | (1 << 14) | _IOCTL_DEVICE

_READ = _READ_FILE | _READ_DIR
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1
_SCOPES = 0b11  # ABI 6: abstract Unix sockets, signals

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/gnu")
_DEVICES = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")


_system: "list[str]" = []


def system_paths() -> "list[str]":
    """Those of ``SYSTEM`` that exist here; links into another of them are left out. Looked up once."""
    if not _system:
        _system.extend(path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path))
    return _system


def abi() -> int:
    """The kernel's Landlock version, 0 without Landlock."""
    try:
        return kernel.call("landlock_create_ruleset", None, 0, _CREATE_VERSION)
    except OSError:
        return 0


def restrict(
    version: int, *, read: "Iterable[str | int]", write: "Iterable[str | int]", execute: bool
) -> None:
    """Restrict this thread and all it will start. Needs ``no_new_privs``.

    Args:
        version: of ``abi()``, at least 1.
        read: what may be read, beside the system's: paths, of which missing ones are passed over, or descriptors.
        write: what may be read and written, in the same form.
        execute: whether files below the readable paths may be executed.
    """
    handled = _ALL_BY_ABI[min(version, 4)] | (_IOCTL_DEVICE if version >= 5 else 0)
    attributes = struct.pack("QQQ", handled, 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = kernel.call("landlock_create_ruleset", attributes, size, 0)
    try:
        run = _EXECUTE if execute else 0
        for path in (*system_paths(), *read):
            _allow(ruleset, path, (_READ | run) & handled)
        _allow(ruleset, "/proc", _READ)
        # A container has its own limits there, which programs measure themselves by; DuckDB dies where the files are
        # seen and cannot be opened.
        _allow(ruleset, "/sys/fs/cgroup", _READ)
        _allow(ruleset, "/dev", _READ_DIR)
        # Memory mapped shared from it, which writing it would allow, is in no process's accounts.
        _allow(ruleset, "/dev/zero", _READ & handled)
        for path in _DEVICES:
            _allow(ruleset, path, (_READ | _WRITE_FILE | _IOCTL_DEVICE) & handled)
        everything = handled if execute else handled & ~_EXECUTE
        for path in write:
            _allow(ruleset, path, everything)
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, place: "str | int", rights: int) -> None:
    if isinstance(place, int):
        _add_rule(ruleset, place, rights)
        return
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _add_rule(ruleset, descriptor, rights)
    finally:
        os.close(descriptor)


def _add_rule(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _FILE_RIGHTS
    kernel.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
