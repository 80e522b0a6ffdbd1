"""A cell: a fresh set of namespaces and file systems for one owner, made in 2 ms by forking the nursery."""

import os
import sys

from corral_runner import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.settings import Settings

_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
NAMESPACE_LAYERS = ["userns", "pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns"]

WORKSPACE = "/workspace"
#: Where the one sized file system of a cell is made before its directories go to their places.
_SCRATCH = "/scratch"
_PLACES = {"workspace": WORKSPACE, "tmp": "/tmp", "shm": "/dev/shm"}  # noqa: S108 - inside the cell

#: Inodes cost kernel memory that no size option counts: about a kilobyte each.
INODES = 16384


class CellError(Exception):
    """The kernel refused a cell's namespaces."""


def fork_cell(settings: "Settings") -> "tuple[int, int]":
    """Fork a process that is pid 1 of its own namespaces, with the file systems of a cell.

    Returns:
        (0, -1) in the cell. In the caller, the cell's process id in the caller's namespace and a pidfd of it.

    Raises:
        CellError: in the caller, when the namespaces could not be made.
    """
    apart = settings.holds("namespaces")
    # In a new user namespace this process has no name of its own until the maps are written.
    uid, gid = os.getuid(), os.getgid()
    try:
        pid, pidfd = kernel.fork_into_namespaces(_NAMESPACES if apart else 0)
    except OSError as error:
        raise CellError(f"a cell's namespaces could not be made: {error.strerror}") from error
    if pid == 0 and apart:
        try:
            # An unprivileged process may map its own group only after giving up setgroups (user_namespaces(7)).
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
            _furnish(settings)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(70)  # EX_SOFTWARE
    return pid, pidfd


def _furnish(settings: "Settings") -> None:
    private = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _SCRATCH, "tmpfs", private, f"size=64m,nr_inodes={INODES},mode=0755")
    for name, place in _PLACES.items():
        if place == WORKSPACE and settings.bound_workspace:
            continue
        directory = f"{_SCRATCH}/{name}"
        os.mkdir(directory, 0o700)
        kernel.mount(directory, place, None, kernel.MS_BIND)
    kernel.call("umount2", _SCRATCH.encode(), kernel.MNT_DETACH)
    kernel.mount("proc", "/proc", "proc", private | kernel.MS_NOEXEC)
    kernel.call("sethostname", b"sandbox", 7)


def resize(disk_bytes: int) -> None:
    """Give the cell's file system its final size. The limit is known only when the execution arrives."""
    kernel.mount(
        "none", _PLACES["tmp"], None, kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV, f"size={disk_bytes}"
    )


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
