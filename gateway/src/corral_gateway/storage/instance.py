"""Which gateway this is, among those that share a database."""

import contextlib
import os
import uuid
from pathlib import Path


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
