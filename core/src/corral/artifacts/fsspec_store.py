"""Artifacts behind any URL that fsspec knows: a directory of this machine, S3 and what speaks like it."""

import asyncio
import contextlib
import os
import posixpath
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from corral.artifacts.port import ArtifactError, ArtifactMissingError

#: Uploads and downloads at once; each has a thread, so that none holds the event loop, whatever the store.
_THREADS = 8
_PIECE_BYTES = 256 * 1024
_PART_BYTES = 5 << 20
#: What all writers together hold in memory of parts that are not whole yet. Half of what an operator may have: a few
#: dozen sandboxes that print as much as they may, and a few hundred that print a megabyte.
_UNDER_WAY_BYTES = 384 << 20

_T = TypeVar("_T")


class FsspecStore:
    """Implements ``ArtifactStore``."""

    def __init__(self, url: str, *, attempts: int = 3) -> None:
        """Use a place; nothing is asked of it yet.

        Args:
            url: such as ``s3://bucket/prefix``, or a path. Credentials and endpoint of a store come from its own
                environment variables, such as ``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``.
            attempts: how often S3 is asked before a request has failed, with pauses of one to twenty seconds.

        Raises:
            ValueError: fsspec knows no such protocol, or what speaks it is not installed.
        """
        try:
            self._files, root = fsspec.core.url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=True, **_options(url, attempts)
            )
        except ImportError as error:
            raise ValueError(str(error)) from None
        if hasattr(self._files, "retries"):  # its client asks again by itself, and this is on top of that
            self._files.retries = 2
        self._root = root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)
        self._under_way = _UnderWay()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")

    async def put(self, uid: str, name: str, content: bytes | BinaryIO) -> None:
        """Keep a content; see ``ArtifactStore``."""
        await self._do(self._put, self._key(uid, name), content)

    async def writer(self, uid: str, name: str, holder: str = "") -> "FsspecWriter":
        """Begin a content; see ``ArtifactStore``."""
        key = self._key(uid, name)
        opened = await self._do(self._open, key)
        held = self._under_way.share(holder)
        return FsspecWriter(opened, partial(self._do, self._sync, key), self._do, held)

    async def move(self, uid: str, other: str, name: str) -> None:
        """Give a content to another task; see ``ArtifactStore``."""
        await self._do(self._move, self._key(uid, name), self._key(other, name))

    async def size(self, uid: str, name: str) -> int:
        """Return a content's size; see ``ArtifactStore``."""
        return int(await self._do(self._files.size, self._key(uid, name)))

    async def get(self, uid: str, name: str) -> bytes:
        """Return a content; see ``ArtifactStore``."""
        data: bytes = await self._do(self._files.cat_file, self._key(uid, name))
        return data

    async def read(self, uid: str, name: str, first: int, count: int) -> AsyncIterator[bytes]:
        """Return a part; see ``ArtifactStore``."""
        key, end = self._key(uid, name), first + count
        piece = await self._piece(key, first, end)
        return self._pieces(key, piece, first, end)

    async def remove(self, uid: str) -> None:
        """Remove a task's contents; see ``ArtifactStore``."""
        with contextlib.suppress(ArtifactMissingError):
            await self._do(self._files.rm, self._key(uid), recursive=True)

    async def tasks(self) -> Sequence[str]:
        """Return what there is; see ``ArtifactStore``."""
        return await self._do(self._tasks)

    async def is_older(self, uid: str, moment: datetime) -> bool:
        """Look at a task's contents; see ``ArtifactStore``."""
        return await self._do(self._is_older, self._key(uid), moment)

    async def close(self) -> None:
        """Give up the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _pieces(self, key: str, piece: bytes, first: int, end: int) -> AsyncIterator[bytes]:
        while True:
            if piece:
                yield piece
            first += len(piece)
            if first >= end or not piece:
                return
            piece = await self._piece(key, first, end)

    async def _piece(self, key: str, first: int, end: int) -> bytes:
        if first >= end:
            return b""
        # By keyword: their order differs from store to store.
        end = min(end, first + _PIECE_BYTES)
        piece: bytes = await self._do(self._files.cat_file, key, start=first, end=end)
        return piece

    def _key(self, *names: str) -> str:
        # Such a name might be another's, or all that there is.
        if any(name in {"", ".", ".."} or "/" in name or "\0" in name for name in names):
            raise ValueError(f"{names!r} name no artifact")
        return posixpath.join(self._root, *names)

    def _make_room(self, key: str) -> None:
        if self._local:
            Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(key).parent.mkdir(mode=0o700, exist_ok=True)

    def _open(self, key: str) -> BinaryIO:
        self._make_room(key)
        # S3 takes no smaller part but the last.
        opened: BinaryIO = self._files.open(key, "wb", block_size=_PART_BYTES)
        if isinstance(opened, AbstractBufferedFile):
            opened.__class__ = _forgettable(type(opened))
        return opened

    def _move(self, key: str, other: str) -> None:
        self._make_room(other)
        if self._local:  # whoever looks for it meanwhile finds all of it, as in a store, or nothing
            Path(key).replace(other)
            self._sync(other)
            with contextlib.suppress(OSError):  # not the last
                Path(key).parent.rmdir()
            return
        self._files.cp_file(key, other)
        self._files.rm_file(key)

    def _put(self, key: str, content: bytes | BinaryIO) -> None:
        self._make_room(key)
        if isinstance(content, bytes):
            self._files.pipe_file(key, content)
        else:
            content.seek(0)
            with self._files.open(key, "wb") as kept:
                shutil.copyfileobj(content, kept, _PIECE_BYTES)
        self._sync(key)

    def _sync(self, key: str) -> None:
        if self._local:  # what a status tells of survives a crash of the machine, as the status does
            for path, flags in ((key, os.O_RDONLY), (posixpath.dirname(key), os.O_RDONLY | os.O_DIRECTORY)):
                descriptor = os.open(path, flags)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _tasks(self) -> list[str]:
        try:
            # One level: a million objects of a thousand tasks are a thousand names.
            found: list[str] = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (place[len(self._root) :].strip("/") for place in found)
        # Consoles put an empty object where a folder should be seen: here that is the root of all.
        return [name for name in names if name]

    def _is_older(self, key: str, moment: datetime) -> bool:
        try:
            found = self._files.find(key, detail=True).values()
        except FileNotFoundError:
            return False
        # A directory is there a moment before the first file in it.
        return bool(found) and all(_changed(entry) < moment for entry in found)

    async def _do(self, work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        call = partial(work, *arguments, **options)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except FileNotFoundError as error:
            raise ArtifactMissingError("the store has no such artifact") from error
        # Each store has errors of its own: of its network, its credentials, its space.
        except Exception as error:
            raise ArtifactError(
                f"the artifact store failed: {type(error).__name__}: {str(error)[:300]}"
            ) from error


class _UnderWay:
    """Bytes that the writers of one store hold.

    None of their holders gets more than is left to all others after that: one alone has half, of several that want all
    they can get the last one has something, too. (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998.)
    """

    def __init__(self) -> None:
        self.count = 0
        self._of: Counter[str] = Counter()

    def share(self, holder: str) -> "Callable[[int], None]":
        """Return what counts more bytes for a holder, or fewer; without room for them it raises ``ArtifactError``."""
        return partial(self._add, holder)

    def _add(self, holder: str, more: int) -> None:
        count, mine = self.count + more, self._of[holder] + more
        if more > 0 and mine > _UNDER_WAY_BYTES - count:
            raise ArtifactError(
                f"{self.count} of {_UNDER_WAY_BYTES} bytes are on their way to the artifact store"
            )
        self.count, self._of[holder] = count, mine
        if not mine:
            del self._of[holder]


class FsspecWriter:
    """Implements ``ArtifactWriter``."""

    def __init__(
        self,
        opened: BinaryIO,
        sync: Callable[[], Awaitable[None]],
        do: Callable[..., Awaitable[Any]],
        hold: Callable[[int], None],
    ) -> None:
        self._count = hold
        self._held = 0
        self._opened = opened
        self._sync = sync
        self._do = do
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        """Add to the content; see ``ArtifactWriter``."""
        self._hold(min(self._held + len(data), _PART_BYTES))
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            await self._flush()

    async def close(self) -> None:
        """End it; see ``ArtifactWriter``."""
        await self._flush()
        await self._do(self._opened.close)
        self._hold(0)
        await self._sync()

    async def discard(self) -> None:
        """Give it up; see ``ArtifactWriter``."""
        self._pending.clear()
        self._hold(0)
        with contextlib.suppress(ArtifactError):
            await self._do(_abandon, self._opened)

    def __del__(self) -> None:
        """Hold nothing any more, where nobody has said that it ends."""
        self._hold(0)

    def _hold(self, count: int) -> None:
        self._count(count - self._held)
        self._held = count

    async def _flush(self) -> None:
        piece, self._pending = bytes(self._pending), bytearray()
        await self._do(self._opened.write, piece)


def _abandon(opened: Any) -> None:
    if isinstance(opened, AbstractBufferedFile):
        opened.closed = True
        opened.discard()
    else:
        opened.close()


def _forgettable(kind: type[AbstractBufferedFile]) -> type[AbstractBufferedFile]:
    """Return a kind of file that the collector does not close.

    ``AbstractBufferedFile.__del__`` would keep the beginning of what nobody has ended, and ask the store to, in any
    thread that happens: in the one that serves everybody, which then waits for a store that is silent.
    """
    return type(kind.__name__, (kind,), {"__del__": lambda _self: None})


def _options(url: str, attempts: int) -> dict[str, Any]:
    """Return what an S3 client is told: one that waits for ever for a server that is gone helps nobody."""
    if not url.startswith("s3://"):
        return {}
    retries = {"mode": "standard", "max_attempts": attempts}
    return {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": retries}}


def _changed(entry: dict[str, Any]) -> datetime:
    """Return when an entry was last written; now, where the store does not say, so that it is kept."""
    changed = entry.get("LastModified", entry.get("mtime"))
    if isinstance(changed, datetime):
        return changed.astimezone(UTC)
    return datetime.now(UTC) if changed is None else datetime.fromtimestamp(changed, UTC)
