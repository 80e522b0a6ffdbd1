"""Writes the files that came back. Their names were chosen in a sandbox, so nothing is trusted of them."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

#: As pathconf's NAME_MAX everywhere that matters.
_MAX_NAME_BYTES = 255


class OutputRefusedError(Exception):
    """A file was not written; the message says why."""


def write_below(directory: Path, path: str, data: bytes) -> Path:
    """Write a file below a directory of the user's, and return where.

    Every directory on the way is opened without following symbolic links; what is missing is made. The file
    takes its place in one step: a symbolic link that has its name is replaced, never followed.

    Args:
        directory: chosen by the user; made if it is missing.
        path: chosen in the sandbox; relative.
        data: the content.

    Raises:
        OutputRefusedError: the path is absolute, leads out, or goes through a symbolic link; or the system
            refused.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path or not parts:
        raise OutputRefusedError(f"{path!r} is no relative path")
    try:
        too_long = any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts)
    except UnicodeEncodeError:
        raise OutputRefusedError(f"{path[:80]!r} is no name of a file") from None
    if too_long:
        raise OutputRefusedError(f"a name in {path[:80]!r} is too long")
    place = directory.joinpath(*parts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                below = _enter(parent, part)
                os.close(parent)
                parent = below
            _replace(parent, parts[-1], data)
        finally:
            os.close(parent)
    except OSError as error:
        raise OutputRefusedError(f"{place}: {error.strerror}") from None
    return place


def _enter(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=parent)  # less the umask
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise OutputRefusedError(f"{name!r} is a symbolic link, which no file is written through")
    # Should it have become one since: O_NOFOLLOW refuses it.
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _replace(parent: int, name: str, data: bytes) -> None:
    temporary = f".corral-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
        os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
