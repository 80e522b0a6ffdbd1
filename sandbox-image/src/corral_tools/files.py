"""Reading and writing files of the workspace: whole, bounded, and with errors a caller can act on."""

import errno
import os
import stat

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolFailure
from corral_tools import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import ToolContext

_CHUNK_BYTES = 1 << 18
_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_REMEDIES = {
    errno.ENOENT: "; list_dir shows what there is",
    errno.EISDIR: "; list_dir lists a directory",
    errno.ENOTDIR: "; a part of the path is a file",
    errno.ELOOP: "; its symbolic links lead in a circle",
}


def failure(error: OSError, action: str, name: str) -> ToolFailure | PermissionRefused:
    """What a tool raises, from the error, when the system refused to do something to a file.

    Args:
        error: what the system said.
        action: what was tried, such as ``read``.
        name: the file, as the caller knows it.
    """
    reason = error.strerror or str(error)
    if error.errno in _REFUSALS:
        return PermissionRefused(
            "permissions",
            f"cannot {action} {name!r}: {reason}; the task's permissions or the file's mode forbid it",
        )
    remedy = _REMEDIES.get(error.errno or 0, "")
    code = errno.errorcode.get(error.errno or 0)
    return ToolFailure(f"cannot {action} {name!r}: {reason}{remedy}", path=paths.printable(name), errno=code)


def open_for_reading(absolute: str, name: str) -> int:
    """A descriptor of a regular file. Never waits on a FIFO, follows no link, opens no device.

    Raises:
        ToolFailure: there is no such file, or it is none that can be read.
        PermissionRefused: the system forbids it.
    """
    try:
        descriptor = os.open(
            absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        )
    except OSError as error:
        # A socket answers ENXIO (open(2)); what it is says more than that.
        if error.errno == errno.ENXIO:
            raise ToolFailure(f"{name!r} is not a regular file", path=paths.printable(name)) from error
        raise failure(error, "read", name) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "a directory; list_dir lists it" if stat.S_ISDIR(mode) else "not a regular file"
    raise ToolFailure(f"{name!r} is {what}", path=paths.printable(name))


def read_bytes(path: str, context: "ToolContext", *, limit_bytes: int, field: str = "path") -> bytes:
    """The whole content of a workspace file.

    Raises:
        ToolFailure: it cannot be read, or is larger than the limit.
        InvalidArgument, PermissionRefused: see `paths.resolve`.
    """
    descriptor = open_for_reading(paths.resolve(path, context, field), path)
    try:
        size_bytes = os.fstat(descriptor).st_size
        chunks = []
        read = 0
        while read <= limit_bytes and (
            chunk := os.read(descriptor, min(_CHUNK_BYTES, limit_bytes + 1 - read))
        ):
            chunks.append(chunk)
            read += len(chunk)
    except OSError as error:
        raise failure(error, "read", path) from error
    finally:
        os.close(descriptor)
    if read > limit_bytes:
        raise ToolFailure(
            f"{path!r} has {max(size_bytes, read)} bytes; this tool takes at most {limit_bytes}",
            path=paths.printable(path),
            sizeBytes=max(size_bytes, read),
            limitBytes=limit_bytes,
        )
    return b"".join(chunks)


def read_text(path: str, context: "ToolContext", *, limit_bytes: int, field: str = "path") -> str:
    """The whole content of a UTF-8 text file of the workspace, line ends as they are.

    Raises:
        ToolFailure: as `read_bytes`, or the content is not UTF-8.
    """
    data = read_bytes(path, context, limit_bytes=limit_bytes, field=field)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolFailure(
            f"{path!r} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}",
            path=paths.printable(path),
            offset=error.start,
        ) from error


def encode(text: str, field: str) -> bytes:
    """An argument's text as UTF-8.

    Raises:
        InvalidArgument: it has a lone surrogate, which UTF-8 cannot say.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            field, f"has a lone surrogate at character {error.start}; it is not Unicode text"
        ) from error


def make_parents(absolute: str, name: str) -> None:
    """Create the directories a file is to lie in."""
    try:
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
    except OSError as error:
        raise failure(error, "create the directory of", name) from error


def replace(absolute: str, data: bytes, name: str) -> None:
    """Give a file this content at once: a reader sees the old or the new, and a failure leaves the old.

    Raises:
        ToolFailure: it cannot be written; raised from the `OSError`, so that a limit keeps its own reason.
        PermissionRefused: the system forbids it.
    """
    temporary = os.path.join(os.path.dirname(absolute), f".corral-{os.urandom(8).hex()}.tmp")
    try:
        mode = _mode_to_keep(absolute)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, data)
            if mode is not None:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        os.replace(temporary, absolute)
    except OSError as error:
        _remove(temporary)
        raise failure(error, "write", name) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; the system may take fewer than it is given (write(2))."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _mode_to_keep(absolute: str) -> int | None:
    try:
        status = os.lstat(absolute)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), absolute)
    return stat.S_IMODE(status.st_mode)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # the failure that led here is the one to tell
