"""Files into and out of the workspace, on paths that a hostile tool may have prepared.

Every path is opened relative to the workspace's own descriptor with openat2 and no symbolic link is followed,
so that nothing here ever leaves the workspace, however quickly the tool swaps names.
"""

import os
import stat

from corral_runner import kernel
from corral_runner.frames import CHUNK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

#: Directories deeper than this are not searched for outputs.
_MAX_DEPTH = 32


class Refused(Exception):  # noqa: N818 - what happened to the path
    """A path that is not taken, with the reason as its text."""


class Workspace:
    """The workspace directory, held open."""

    __slots__ = ("directory", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def put(self, path: str, data: bytes, mode: int = 0o644, *, append: bool = False) -> None:
        """Write a file, making the directories on the way.

        Raises:
            Refused: the path leads out, through a symbolic link, or to something that is no regular file.
            OSError: the file system is full.
        """
        parts = _split(path)
        parent = os.dup(self.directory)
        try:
            for part in parts[:-1]:
                try:
                    os.mkdir(part, 0o755, dir_fd=parent)
                except FileExistsError:
                    pass
                below = _open(parent, part, os.O_PATH | os.O_DIRECTORY, path)
                os.close(parent)
                parent = below
            flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | (os.O_APPEND if append else os.O_TRUNC)
            descriptor = _open(parent, parts[-1], flags, path, mode & 0o777)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Refused(f"{path} is not a regular file")
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
        finally:
            os.close(parent)

    def read(self, path: str) -> "tuple[int, int, Generator[bytes]]":
        """Open a regular file.

        Returns:
            Its size in bytes, its mode, and its content in chunks.

        Raises:
            Refused: it is missing, no regular file, or behind a symbolic link.
        """
        descriptor = _open(
            self.directory, "/".join(_split(path)), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, path
        )
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise Refused(f"{path} is not a regular file")
        return status.st_size, stat.S_IMODE(status.st_mode), _chunks(descriptor, status.st_size)

    def find(self, patterns: "list[str]") -> "list[str]":
        """Relative paths, sorted, of what matches a glob pattern (``*``, ``?``, ``[…]``, ``**`` for any depth)."""
        return sorted(self._find([pattern.split("/") for pattern in patterns], self.directory, "", 0))

    def _find(self, patterns: "list[list[str]]", directory: int, prefix: str, depth: int) -> "Iterator[str]":
        for name, is_directory in _entries(directory):
            below, matched = _match(patterns, name)
            if not is_directory:
                if matched:
                    yield prefix + name
            elif below and depth < _MAX_DEPTH:
                try:
                    child = _open(directory, name, os.O_PATH | os.O_DIRECTORY, name)
                except Refused:
                    continue
                try:
                    yield from self._find(below, child, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(child)


def _entries(directory: int) -> "list[tuple[str, bool]]":
    """Names in a directory, and whether each is one itself; none where it may not be read."""
    try:
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        with os.scandir(listing) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return []
    finally:
        os.close(listing)


def _match(patterns: "list[list[str]]", name: str) -> "tuple[list[list[str]], bool]":
    """Return the patterns for what is below a name, and whether one ends with it."""
    import fnmatch

    below: list[list[str]] = []
    matched = False
    for pattern in patterns:
        head, rest = pattern[0], pattern[1:]
        if head == "**":
            below.append(pattern)
            # "**/x" also matches x right here
            if not rest:
                matched = True
                continue
            head, rest = rest[0], rest[1:]
        if fnmatch.fnmatchcase(name, head):
            if rest:
                below.append(rest)
            else:
                matched = True
    return below, matched


def _split(path: str) -> "list[str]":
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in {"", ".", ".."} for part in parts) or "\0" in path:
        raise Refused(f"{path!r} is not a plain relative path")
    return parts


def _open(directory: int, path: str, flags: int, shown: str, mode: int = 0) -> int:
    try:
        return kernel.open_beneath(directory, path, flags, mode)
    except OSError as error:
        if error.errno in {28, 122}:  # ENOSPC, EDQUOT: a limit, not a refusal
            raise
        raise Refused(f"{shown}: {error.strerror}") from None


def _chunks(descriptor: int, size: int) -> "Generator[bytes]":
    """At most ``size`` bytes, so that a file that grows meanwhile has an end."""
    try:
        while size > 0:
            data = os.read(descriptor, min(CHUNK_BYTES, size))
            if not data:
                return
            size -= len(data)
            yield data
    finally:
        os.close(descriptor)
