"""What a sandbox has written: its own file systems, and a directory of the host where that is the workspace."""

import errno
import os
import stat

from corral_runner import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral_runner.settings import Settings

#: A directory of the host is walked again so long after the last walk, so many entries at a time.
_WALK_SECONDS = 0.25
_WALK_ENTRIES = 2000


class Disk:
    """The limit on workspace, /tmp and /dev/shm together, for one execution."""

    __slots__ = (
        "_before",
        "_bound",
        "_limit_bytes",
        "_own",
        "_places",
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
        if settings.resizable:
            try:
                cell.resize(limit_bytes)
            except OSError as error:
                raise OSError(
                    errno.ENOSPC, f"more than the disk limit of {limit_bytes} bytes is there already"
                ) from error
        self._limit_bytes = limit_bytes
        self._places = settings.file_systems
        #: One place in each of the file systems.
        self._own = list({os.stat(place).st_dev: place for place in self._places}.values())
        self._bound = workspace if settings.bound_workspace else None
        self._before = self._walked = 0 if self._bound is None else _used_bytes(self._bound)
        self._walk: Iterator[os.stat_result] | None = None
        self._walk_at = 0.0
        self._walk_sum = 0
        #: A file system of the sandbox's own had no room left when it was looked at.
        self.was_full = False

    def exceeded(self, now: float) -> bool:
        """Look, and say whether the whole is over the limit. Notices when a file system is full."""
        used = inodes = 0
        for place in self._own:
            found = os.statvfs(place)
            used += (found.f_blocks - found.f_bfree) * found.f_frsize
            inodes += found.f_files - found.f_ffree
            if found.f_bavail * found.f_frsize < 4096 or found.f_ffree < 1:
                self.was_full = True
        if len(self._own) == 1 and self._bound is None:
            return False  # one file system of the right size needs nobody to add anything up
        if self._bound is not None:
            self._walk_on(now, self._bound)
        return used + self._walked - self._before > self._limit_bytes or inodes > cell.INODES

    def holds_file_of(self, size: int) -> bool:
        """Whether a file of exactly this size is there; where a limit on file sizes cut one, it is."""
        places = [*self._places, self._bound] if self._bound is not None else self._places
        return any(status.st_size == size for place in places for status in _files(place))

    def _walk_on(self, now: float, bound: str) -> None:
        """Walk a part of the way, so that a large tree does not keep the runner from anything else."""
        if self._walk is None:
            if now < self._walk_at:
                return
            self._walk, self._walk_sum = _files(bound), 0
        for _ in range(_WALK_ENTRIES):
            status = next(self._walk, None)
            if status is None:
                self._walk, self._walked, self._walk_at = None, self._walk_sum, now + _WALK_SECONDS
                return
            self._walk_sum += status.st_blocks * 512


def _used_bytes(path: str) -> int:
    """Bytes that a directory tree takes, links not followed; what cannot be read counts nothing."""
    return sum(status.st_blocks * 512 for status in _files(path))


def _files(path: str) -> "Iterator[os.stat_result]":
    waiting = [path]
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
