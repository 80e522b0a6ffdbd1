"""A cell: a fresh set of namespaces and file systems for one owner, made in 2 ms by forking the nursery."""

import os

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
#: Until the execution arrives, whose limit ``resize`` sets, nobody but its owner writes.
_FIRST_SIZE = "64g"
_TERMINALS = 16
#: What the kernel gives out once for all sandboxes of a user, unless a user namespace sets a ceiling of its own
#: (namespaces(7), /proc/sys/user). A watch keeps an inode in memory; events that nobody reads are kept too.
_CEILINGS = {"max_inotify_instances": 16, "max_inotify_watches": 4096, "max_user_namespaces": 0}


class CellError(Exception):
    """The kernel refused a cell's namespaces."""


def fork_cell(settings: "Settings") -> "tuple[int, int]":
    """Fork a process that is pid 1 of its own namespaces; it must then ``furnish`` them.

    Returns:
        (0, -1) in the cell. In the caller, the cell's process id in the caller's namespace and a pidfd of it.

    Raises:
        CellError: in the caller, when the namespaces could not be made.
    """
    try:
        return kernel.fork_into_namespaces(_NAMESPACES if settings.holds("namespaces") else 0)
    except OSError as error:
        raise CellError(f"a cell's namespaces could not be made: {error.strerror}") from error


def furnish(settings: "Settings", uid: int, gid: int) -> None:
    """Give this new cell its user and its file systems.

    Args:
        settings: told what the cell now has of its own.
        uid: of the process that forked it; in its new user namespace it has no name of its own yet.
        gid: the same.

    Raises:
        OSError: the kernel refused; the cell is of no use.
    """
    # An unprivileged process may map its own group only after giving up setgroups (user_namespaces(7)).
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")
    private = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _SCRATCH, "tmpfs", private, f"size={_FIRST_SIZE},nr_inodes={INODES},mode=0755")
    places = {
        name: place
        for name, place in _PLACES.items()
        if not (place == WORKSPACE and settings.bound_workspace)
    }
    for name, place in places.items():
        directory = f"{_SCRATCH}/{name}"
        os.mkdir(directory, 0o700)
        kernel.mount(directory, place, None, kernel.MS_BIND)
    kernel.call("umount2", _SCRATCH.encode(), kernel.MNT_DETACH)
    kernel.mount("proc", "/proc", "proc", private | kernel.MS_NOEXEC)
    # bubblewrap's is shared by all cells: one could read another's terminals there.
    options = f"newinstance,ptmxmode=0666,mode=0620,max={_TERMINALS}"
    kernel.mount("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, options)
    kernel.call("sethostname", b"sandbox", 7)
    if settings.holds("ceilings"):
        set_ceilings()
    settings.private_users = settings.resizable = True
    settings.file_systems = list(places.values())


def set_ceilings() -> None:
    """Bound what this user namespace, which must be the sandbox's own, may take of the kernel's per-user counts.

    Raises:
        OSError: the kernel refused.
    """
    for name, most in _CEILINGS.items():
        _write(f"/proc/sys/user/{name}", str(most))


def resize(disk_bytes: int) -> None:
    """Give the cell's file system its final size. The limit is known only when the execution arrives."""
    flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", _PLACES["tmp"], None, flags, f"size={disk_bytes}")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
