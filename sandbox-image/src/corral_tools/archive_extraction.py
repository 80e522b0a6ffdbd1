"""Unpack an archive into the workspace: plain files and directories, nothing else, nowhere else."""

import errno
import os

from corral_runner.interface import PermissionRefused
from corral_tools import archive_reading, files, paths
from corral_tools.archive_reading import DIRECTORY, FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from corral_runner.interface import JSON, ToolContext
    from corral_tools.archive_reading import Archive, Member

_CHUNK_BYTES = 1 << 18
#: So many entries say what an archive is like; the rest is only counted.
_REFUSALS_SHOWN = 100
_ENTRIES_PER_PROGRESS = 500


def extract(path: str, destination: str, context: "ToolContext") -> "JSON":
    """Unpack what is safe, and tell what was refused and why. A failure removes what was unpacked so far."""
    target = paths.resolve(destination, context, "destination")
    extraction = _Extraction(target, destination, context)
    try:
        with archive_reading.opened(path, context) as archive:
            for number, member in enumerate(archive.members(), start=1):
                extraction.take(member, archive)
                if number % _ENTRIES_PER_PROGRESS == 0:
                    context.progress(None, f"{number} entries")
    except BaseException:  # whatever ends it, half of an archive is no result
        extraction.undo()
        raise
    return {
        "format": archive.format,
        "destination": paths.relative(target, context),
        "files": extraction.files,
        "directories": extraction.directories,
        "bytes": extraction.written_bytes,
        "refused": extraction.refused[:_REFUSALS_SHOWN],
        "refused_count": len(extraction.refused),
    }


class _Extraction:
    """One extraction, and what it has made so far."""

    def __init__(self, target: str, destination: str, context: "ToolContext") -> None:
        self._target = target
        self._destination = destination
        self._context = context
        self._made: list[tuple[bool, str]] = []
        self.files = self.directories = self.written_bytes = 0
        self.refused: list[JSON] = []

    def take(self, member: "Member", archive: "Archive") -> None:
        """Unpack one entry, or note why not."""
        reason = _refusal(member)
        if reason is None:
            try:
                reason = self._unpack(member, archive)
            except PermissionRefused as error:
                reason = f"its place is out of reach: {error.message}"
        if reason is not None:
            name = paths.printable(member.name)
            self.refused.append({"name": name[:1000], "type": member.type, "reason": reason})

    def undo(self) -> None:
        for is_directory, path in reversed(self._made):
            try:
                os.rmdir(path) if is_directory else os.unlink(path)
            except OSError:
                continue  # the failure that led here is the one to tell

    def _unpack(self, member: "Member", archive: "Archive") -> str | None:
        parts = [part for part in member.name.split("/") if part not in {"", "."}]
        if not parts:
            return None  # the destination itself
        absolute = paths.resolve("/".join([self._destination, *parts]), self._context, "destination")
        is_directory = member.type == DIRECTORY
        try:
            self._make_directories(absolute if is_directory else os.path.dirname(absolute))
            if not is_directory:
                with member.open() as content:
                    self._write(absolute, content, archive, executable=member.is_executable)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}:
                return "something of that name is there already"
            if error.errno in {errno.ENAMETOOLONG, errno.EINVAL}:
                return "its name is none the file system takes"
            if error.errno is None:
                raise
            raise files.failure(error, "unpack", paths.printable(member.name)) from error
        self.directories += is_directory
        self.files += not is_directory
        return None

    def _make_directories(self, absolute: str) -> None:
        missing = []
        while not os.path.isdir(absolute):
            missing.append(absolute)
            absolute = os.path.dirname(absolute)
        for directory in reversed(missing):
            os.mkdir(directory)
            self._made.append((True, directory))

    def _write(self, absolute: str, content: "IO[bytes]", archive: "Archive", *, executable: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        # Only whether it may be executed is taken over: an archive gives nobody set-user-ID files.
        descriptor = os.open(absolute, flags, 0o777 if executable else 0o666)
        self._made.append((False, absolute))
        try:
            while chunk := content.read(_CHUNK_BYTES):
                archive.count(len(chunk))
                files.write_all(descriptor, chunk)
                self.written_bytes += len(chunk)
        finally:
            os.close(descriptor)


def _refusal(member: "Member") -> str | None:
    """Why an entry is not unpacked whatever there is in the workspace, or None."""
    # Windows' tools write backslashes, and archives made to attack use both.
    name = member.name.replace("\\", "/")
    if name.startswith("/") or (name[1:2] == ":" and name[0].isalpha()):
        return "its path is absolute"
    if ".." in name.split("/"):
        return "its path has '..' in it"
    if "\0" in name:
        return "its name has a NUL character in it"
    if member.type in {FILE, DIRECTORY}:
        return None
    return {
        "symlink": "it is a symbolic link",
        "hardlink": "it is a hard link",
        "fifo": "it is a FIFO",
        "device": "it is a device",
        "encrypted": "it is encrypted",
    }.get(member.type, "it is neither a file nor a directory")
