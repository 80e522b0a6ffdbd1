"""Which gateway this is, among those that share a database."""

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

#: What a killed gateway has started goes a moment after it.
_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.1


class DirectoryInUseError(Exception):
    """Another process runs tasks from there, or has not ended yet."""


def instance_of(directory: Path) -> str:
    """Return the id of the gateway whose data lie in a directory; made at the first time, the same ever after."""
    file = directory / "instance"
    if not file.exists():
        started = file.with_name(f".instance.{os.getpid()}")
        started.write_text(str(uuid.uuid4()), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was faster: its id it is
            os.link(started, file)
        started.unlink()
    return file.read_text(encoding="ascii").strip()


@asynccontextmanager
async def alone_in(directory: Path) -> AsyncIterator[None]:
    """Be the one process that runs the tasks of a directory: what a start finds unended there is nobody's any more.

    Raises:
        DirectoryInUseError: another one is.
    """
    if sys.platform == "win32":  # without locks of this kind; sandboxes are not there either
        yield
        return
    import fcntl

    file = os.open(directory / "running", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    raise DirectoryInUseError from None
                await asyncio.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(file)
