"""Write a file of the workspace: anew, at its end, or only if there is none yet."""

import errno
import os
import stat

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """All of the content is written, or nothing: a failure leaves the file as it was."""
    path = arguments["path"]
    mode = arguments.get("mode", "overwrite")
    data = _content(arguments)
    absolute = paths.resolve(path, context)
    existed = os.path.lexists(absolute)
    if os.path.isdir(absolute):
        raise ToolFailure(f"{path!r} is a directory; name a file in it", path=path)
    files.make_parents(absolute, path)
    if mode == "append":
        _append(absolute, data, path)
    elif mode == "create":
        _create(absolute, data, path)
    else:
        files.replace(absolute, data, path)
    return {
        "path": paths.relative(absolute, context),
        "bytes_written": len(data),
        "size": os.stat(absolute).st_size,
        "created": not existed,
    }


def _content(arguments: "Mapping[str, Any]") -> bytes:
    content: str = arguments["content"]
    if arguments.get("encoding", "utf-8") == "utf-8":
        return files.encode(content, "content")
    import base64

    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:  # binascii.Error is one; so is what a character outside ASCII raises
        raise InvalidArgument(
            "content", f"is not base64: {error}; or leave out 'encoding' to write text"
        ) from error


def _create(absolute: str, data: bytes, name: str) -> None:
    try:
        descriptor = os.open(
            absolute, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
        )
    except FileExistsError as error:
        raise ToolFailure(
            f"{name!r} exists already; mode 'overwrite' replaces it, 'append' adds to it",
            path=name,
            errno="EEXIST",
        ) from error
    except OSError as error:
        raise files.failure(error, "create", name) from error
    try:
        files.write_all(descriptor, data)
    except OSError as error:
        os.unlink(absolute)
        raise files.failure(error, "write", name) from error
    finally:
        os.close(descriptor)


def _append(absolute: str, data: bytes, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(absolute, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO without a reader, or a socket (open(2))
            raise ToolFailure(f"{name!r} is not a regular file", path=name) from error
        raise files.failure(error, "append to", name) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ToolFailure(f"{name!r} is not a regular file", path=name)
        try:
            files.write_all(descriptor, data)
        except OSError as error:
            os.ftruncate(descriptor, status.st_size)
            raise files.failure(error, "append to", name) from error
    finally:
        os.close(descriptor)
