"""What an archive holds, read without trusting it: bounded in entries, in bytes, in how far it unpacks."""

import contextlib
import functools
import os
import stat

from corral_runner.interface import ToolFailure
from corral_tools import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from collections.abc import Callable, Iterator
    from typing import IO

    from corral_runner.interface import ToolContext

MAX_ENTRIES = 10_000
MAX_BYTES = 512 << 20
#: Deflate packs at most 1032 to 1 (zlib's technical note); text and data stay far below a quarter of that.
MAX_RATIO = 250
#: Small archives may well hold a few megabytes of zeros; the ratio counts beyond this.
RATIO_FREE_BYTES = 16 << 20
#: A tar has three blocks of 512 bytes around an entry, a few more for a long name, and is padded at its end.
_TAR_OVERHEAD_BYTES = 1 << 20

FILE, DIRECTORY, SYMLINK, HARDLINK = "file", "directory", "symlink", "hardlink"
FIFO, DEVICE, ENCRYPTED, OTHER = "fifo", "device", "encrypted", "other"

_MAGIC = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "tar.gz", b"\xfd7zXZ\x00": "tar.xz"}


class Member:
    """One entry of an archive, as the archive describes it."""

    __slots__ = ("_open", "is_executable", "name", "size_bytes", "type")

    def __init__(
        self, name: str, type_: str, size_bytes: int, open_: "Callable[[], IO[bytes] | None]", *, mode: int
    ) -> None:
        #: As it stands in the archive: may be absolute, may lead anywhere.
        self.name = name
        #: One of the constants of this module.
        self.type = type_
        #: As declared; what comes out may differ.
        self.size_bytes = size_bytes
        self.is_executable = bool(mode & 0o111)
        self._open = open_

    def open(self) -> "IO[bytes]":
        """The content of a file; to be read before the next member is asked for."""
        content = self._open()
        assert content is not None
        return content


class Archive:
    """An open archive, and how much has come out of it."""

    def __init__(self, file: "IO[bytes]", name: str) -> None:
        self._file = file
        self._name = name
        self._size_bytes = os.fstat(file.fileno()).st_size
        self._unpacked_bytes = 0
        self.format = _format(file)

    def members(self) -> "Iterator[Member]":
        """Every entry, in the archive's order.

        Raises:
            ToolFailure: there are too many, or they unpack to too much.
        """
        source = _zip_members(self._file) if self.format == "zip" else self._tar_members()
        for number, member in enumerate(source, start=1):
            if number > MAX_ENTRIES:
                raise ToolFailure(f"{self._name!r} has more than {MAX_ENTRIES} entries", limit="entries")
            yield member

    def count(self, unpacked_bytes: int) -> None:
        """Note that so much more has come out.

        Raises:
            ToolFailure: that is more than this tool unpacks, or than an honest archive of this size holds.
        """
        self._unpacked_bytes += unpacked_bytes
        if self._unpacked_bytes > MAX_BYTES:
            raise ToolFailure(f"{self._name!r} unpacks to more than {MAX_BYTES} bytes", limit="bytes")
        if self._unpacked_bytes > max(RATIO_FREE_BYTES, self._size_bytes * MAX_RATIO):
            raise ToolFailure(
                f"{self._name!r} unpacks to over {MAX_RATIO} times its size, as bombs do", limit="ratio"
            )

    def _tar_members(self) -> "Iterator[Member]":
        import tarfile

        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(_decompressed(self._file, self.format))
            expected_bytes = max(RATIO_FREE_BYTES, self._size_bytes * MAX_RATIO)
            limit_bytes = min(MAX_BYTES, expected_bytes) + _TAR_OVERHEAD_BYTES
            bounded = _Bounded(plain, limit_bytes, self._name)
            # "r|": read once from front to back, so that the bound above counts every byte once.
            tar = stack.enter_context(tarfile.open(fileobj=bounded, mode="r|"))  # type: ignore[call-overload]
            for info in tar:
                yield Member(
                    info.name,
                    _tar_type(info),
                    info.size,
                    functools.partial(tar.extractfile, info),
                    mode=info.mode,
                )


@contextlib.contextmanager
def opened(path: str, context: "ToolContext") -> "Iterator[Archive]":
    """An archive of the workspace, open for reading; what is wrong with it becomes a `ToolFailure`."""
    import struct
    import tarfile
    import zipfile
    import zlib
    from lzma import LZMAError

    descriptor = files.open_for_reading(paths.resolve(path, context), path)
    with open(descriptor, "rb") as file:
        try:
            yield Archive(file, path)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, struct.error, EOFError) as error:
            raise _damaged(path, error) from error
        # What the standard library's parsers let through: unknown methods, numbers and names out of range.
        except (NotImplementedError, ValueError, LookupError, RuntimeError) as error:
            raise _damaged(path, error) from error
        except OSError as error:  # gzip.BadGzipFile is one, without an errno
            raise (files.failure(error, "read", path) if error.errno else _damaged(path, error)) from error


def _damaged(path: str, error: Exception) -> ToolFailure:
    return ToolFailure(
        f"{path!r} is damaged, or no archive of a known kind (zip, tar, tar.gz, tar.xz): {error}",
        path=paths.printable(path),
    )


def _format(file: "IO[bytes]") -> str:
    start = file.read(6)
    file.seek(0)
    return next((format_ for magic, format_ in _MAGIC.items() if start.startswith(magic)), "tar")


def _decompressed(file: "IO[bytes]", format_: str) -> "contextlib.AbstractContextManager[IO[bytes]]":
    if format_ == "tar.gz":
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
    if format_ == "tar.xz":
        import lzma

        return lzma.LZMAFile(file, "rb")
    return contextlib.nullcontext(file)


class _Bounded:
    """A stream that ends with an error where more comes out of it than should."""

    def __init__(self, stream: "IO[bytes]", limit_bytes: int, name: str) -> None:
        self._stream = stream
        self._left_bytes = limit_bytes
        self._name = name

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise ToolFailure(
                f"{self._name!r} unpacks to far more than its size, as archive bombs do", limit="bytes"
            )
        return data


def _zip_members(file: "IO[bytes]") -> "Iterator[Member]":
    import zipfile

    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            yield Member(
                info.filename,
                _zip_type(info, mode),
                info.file_size,
                functools.partial(archive.open, info),
                mode=mode,
            )


def _zip_type(info: "zipfile.ZipInfo", mode: int) -> str:
    if info.flag_bits & 0x1:  # APPNOTE.TXT, 4.4.4
        return ENCRYPTED
    if info.is_dir():
        return DIRECTORY
    kinds = {
        stat.S_IFLNK: SYMLINK,
        stat.S_IFIFO: FIFO,
        stat.S_IFCHR: DEVICE,
        stat.S_IFBLK: DEVICE,
        stat.S_IFSOCK: OTHER,
    }
    return kinds.get(stat.S_IFMT(mode), FILE)


def _tar_type(info: "tarfile.TarInfo") -> str:
    if info.isreg():
        return FILE
    if info.isdir():
        return DIRECTORY
    if info.issym() or info.islnk():
        return SYMLINK if info.issym() else HARDLINK
    if info.isfifo():
        return FIFO
    return DEVICE if info.isdev() else OTHER
