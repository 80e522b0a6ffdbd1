"""What a sandbox has written: on file systems of its own, and in directories on file systems that others use too."""

import errno
import os
import stat

from corral_runner import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral_runner.settings import Settings

#: A directory is walked again so long after the last walk, so many entries at a time.
_WALK_SECONDS = 0.25
_WALK_ENTRIES = 2000


class Disk:
    """The limit on workspace, /tmp and /dev/shm together, for one execution."""

    __slots__ = (
        "_before",
        "_limit_bytes",
        "_own",
        "_places",
        "_sized",
        "_trees",
        "_walk",
        "_walk_at",
        "_walk_sum",
        "_walked",
        "was_full",
    )

    def __init__(self, settings: "Settings", workspace: str, limit_bytes: int) -> None:
        """Begin an execution.

        Raises:
            OSError: ENOSPC, more than the limit is there already.
        """
        self._limit_bytes = limit_bytes
        #: One place in each of the file systems that are the sandbox's own.
        self._own = list({os.stat(place).st_dev: place for place in settings.file_systems}.values())
        self._trees = [workspace] if settings.bound_workspace else settings.walked
        self._places = [*settings.file_systems, *self._trees]
        self._walked = _sum(_files(self._trees))
        #: What was in a directory of the host before is not the task's. Elsewhere nobody else writes.
        self._before = self._walked if settings.bound_workspace else (0, 0)
        self._walk: Iterator[os.stat_result] | None = None
        self._walk_at = 0.0
        self._walk_sum = (0, 0)
        #: A file system of the sandbox's own had no room left when it was looked at.
        self.was_full = False
        #: A file system of the right size needs nobody to add anything up.
        self._sized = settings.resizable and not self._trees
        if settings.resizable:
            try:
                cell.resize(limit_bytes)
            except OSError as error:
                raise self._too_much() from error
        elif self._look():
            raise self._too_much()

    def _too_much(self) -> OSError:
        return OSError(
            errno.ENOSPC, f"more than the disk limit of {self._limit_bytes} bytes is there already"
        )

    def exceeded(self, now: float) -> bool:
        """Look, and say whether the whole is over the limit. Notices when a file system is full."""
        if self._trees:
            self._walk_on(now)
        return self._look()

    def _look(self) -> bool:
        used = inodes = 0
        for place in self._own:
            found = os.statvfs(place)
            used += (found.f_blocks - found.f_bfree) * found.f_frsize
            inodes += found.f_files - found.f_ffree
            if found.f_bavail * found.f_frsize < 4096 or (found.f_files and found.f_ffree < 1):
                self.was_full = True
        if self._sized:
            return False
        used += self._walked[0] - self._before[0]
        inodes += self._walked[1] - self._before[1]
        return used > self._limit_bytes or inodes > cell.INODES

    def holds_file_of(self, size: int) -> bool:
        """Whether a file of exactly this size is there; where a limit on file sizes cut one, it is."""
        return any(status.st_size == size for status in _files(self._places))

    def _walk_on(self, now: float) -> None:
        """Walk a part of the way, so that a large tree does not keep the runner from anything else."""
        if self._walk is None:
            if now < self._walk_at:
                return
            self._walk, self._walk_sum = _files(self._trees), (0, 0)
        piece = []
        for status in self._walk:
            piece.append(status)
            if len(piece) == _WALK_ENTRIES:
                break
        used, entries = _sum(piece)
        self._walk_sum = self._walk_sum[0] + used, self._walk_sum[1] + entries
        if len(piece) < _WALK_ENTRIES:
            self._walk, self._walked, self._walk_at = None, self._walk_sum, now + _WALK_SECONDS


def own_and_shared(places: "list[str]") -> "tuple[list[str], list[str]]":
    """Tell the places in memory, which are a sandbox's alone, from those on a disk, which is the whole node's."""
    with open("/proc/self/mountinfo", "rb") as file:
        # proc_pid_mountinfo(5): the mount point is the fifth field, the type the first behind the separator. Of
        # several at one point the last is on top.
        kinds = {os.fsdecode(line.split()[4]): line.partition(b" - ")[2].split()[0] for line in file}
    own = [place for place in places if kinds.get(place) == b"tmpfs"]
    return own, [place for place in places if place not in own]


def _sum(found: "Iterable[os.stat_result]") -> "tuple[int, int]":
    """Bytes that files take, and how many there are."""
    used = entries = 0
    for status in found:
        used += status.st_blocks * 512
        entries += 1
    return used, entries


def _files(paths: "list[str]") -> "Iterator[os.stat_result]":
    """Look at everything below some directories, links not followed; what cannot be read counts nothing."""
    waiting = list(paths)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    yield status
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
        except OSError:
            continue
