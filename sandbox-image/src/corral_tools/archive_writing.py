"""Pack files and directories of the workspace. The same content gives the same bytes: no times, no owners."""

import os
import stat

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import files, paths
from corral_tools.archive_reading import MAX_BYTES, MAX_ENTRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from corral_runner.interface import JSON, ToolContext

_SUFFIXES = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
}
#: The earliest time a zip can say (APPNOTE.TXT, 4.4.6).
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_SKIPPED_SHOWN = 100


def create(path: str, sources: list[str], *, format_: str | None, context: "ToolContext") -> "JSON":
    """Write an archive at once, or not at all; links and special files are left out and told."""
    format_ = format_ or next((found for end, found in _SUFFIXES.items() if path.lower().endswith(end)), None)
    if format_ is None:
        known = ", ".join(_SUFFIXES)
        raise InvalidArgument("path", f"does not tell the format by its ending ({known}); or give 'format'")
    absolute = paths.resolve(path, context)
    contents = _Contents(context, own=absolute)
    for index, source in enumerate(sources):
        contents.add(source, f"files[{index}]")
    files.make_parents(absolute, path)
    temporary = os.path.join(os.path.dirname(absolute), f".corral-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            (_write_zip if format_ == "zip" else _write_tar)(file, contents.entries, format_)
        os.replace(temporary, absolute)
    except OSError as error:
        raise files.failure(error, "write", path) from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    directories = sum(stat.S_ISDIR(status.st_mode) for _, status in contents.entries.values())
    return {
        "path": paths.relative(absolute, context),
        "format": format_,
        "size": os.stat(absolute).st_size,
        "files": len(contents.entries) - directories,
        "directories": directories,
        "bytes": contents.size_bytes,
        "skipped": contents.skipped[:_SKIPPED_SHOWN],
        "skipped_count": len(contents.skipped),
    }


class _Contents:
    """What goes into an archive."""

    def __init__(self, context: "ToolContext", own: str) -> None:
        self._context = context
        self._own = own
        #: Name in the archive: where the file is, and what it was when it was found.
        self.entries: dict[str, tuple[str, os.stat_result]] = {}
        self.skipped: list[JSON] = []
        self.size_bytes = 0

    def add(self, source: str, field: str) -> None:
        """Take up a file, or a directory with everything in it, in the order of the names."""
        pending = [paths.resolve(source, self._context, field)]
        while pending:
            absolute = pending.pop()
            try:
                status = os.lstat(absolute)
                if self._take(absolute, status) and stat.S_ISDIR(status.st_mode):
                    names = sorted(os.listdir(absolute), reverse=True)
                    pending.extend(os.path.join(absolute, name) for name in names)
            except OSError as error:
                raise files.failure(error, "read", paths.relative(absolute, self._context)) from error

    def _take(self, absolute: str, status: os.stat_result) -> bool:
        name = paths.relative(absolute, self._context)
        reason = _reason_to_skip(absolute, status)
        if reason is not None:
            self.skipped.append({"name": name, "reason": reason})
            return False
        if (
            name == "." or absolute == self._own
        ):  # the workspace has no name in it, the archive no place in itself
            return name == "."
        if name not in self.entries:
            self.entries[name] = absolute, status
            self.size_bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if len(self.entries) > MAX_ENTRIES:
            raise ToolFailure(
                f"there are more than {MAX_ENTRIES} files and directories to pack", limit="entries"
            )
        if self.size_bytes > MAX_BYTES:
            raise ToolFailure(f"there are more than {MAX_BYTES} bytes to pack", limit="bytes")
        return True


def _reason_to_skip(absolute: str, status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return "it is neither a file nor a directory"
    if paths.printable(absolute) != absolute:
        return "its name is not UTF-8"
    return None


def _mode(status: os.stat_result) -> int:
    return 0o755 if status.st_mode & 0o111 else 0o644


def _write_zip(file: "IO[bytes]", entries: "dict[str, tuple[str, os.stat_result]]", _format: str) -> None:
    import shutil
    import zipfile

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (absolute, status) in entries.items():
            is_directory = stat.S_ISDIR(status.st_mode)
            info = zipfile.ZipInfo(f"{name}/" if is_directory else name, _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_STORED if is_directory else zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFMT(status.st_mode) | _mode(status)) << 16
            if is_directory:
                archive.writestr(info, b"")
                continue
            with open(absolute, "rb") as content, archive.open(info, "w") as packed:
                shutil.copyfileobj(content, packed)


def _write_tar(file: "IO[bytes]", entries: "dict[str, tuple[str, os.stat_result]]", format_: str) -> None:
    import contextlib
    import gzip
    import lzma
    import tarfile

    with contextlib.ExitStack() as stack:
        stream: IO[bytes] | gzip.GzipFile | lzma.LZMAFile = file
        if format_ == "tar.gz":
            stream = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
        elif format_ == "tar.xz":
            stream = stack.enter_context(lzma.LZMAFile(file, "wb"))
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="w|"))
        for name, (absolute, status) in entries.items():
            info = tarfile.TarInfo(name)
            info.mode = _mode(status)
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
                continue
            info.size = status.st_size
            with open(absolute, "rb") as content:
                archive.addfile(info, content)
