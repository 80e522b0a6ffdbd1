"""Serves by the real command, in a process of its own, over a real socket."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from corral_gateway.identity.api_key import make_key
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Role
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from eventually import eventually

CORRAL = Path(sys.executable).with_name("corral")


def corral(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a gateway lives."""
    return subprocess.run(
        [CORRAL, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(
    directory: Path,
    metrics_port: int = 0,
    *,
    command: Sequence[str | Path] = (CORRAL, "serve"),
    **settings: str,
) -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    """Serve on a free port; yield its address, its log and its process."""
    log = directory / "serve.log"
    # What a test leaves running is not waited for; tests of the end say how long.
    defaults = {"PORT": "0", "CORRAL_METRICS_PORT": str(metrics_port), "CORRAL_GRACE_SECONDS": "0"}
    env = {**os.environ, **defaults, **settings}
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=directory, env=env, stdout=file, stderr=file)
    try:
        address = eventually(lambda: re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()))
        assert address is not None
        yield address[1], log, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def new_key(directory: Path, caller: str = "someone", role: Role = Role.RUNNER) -> str:
    """Make a key of the gateway that lives there, as ``corral keys create`` does, in a fraction of its time."""
    kept, text = make_key(caller, role, datetime.now(UTC))

    async def add() -> None:
        database = Database(Settings(_env_file=None, CORRAL_DATA_DIR=directory / "data").database_url)
        await KeyStore(database).add(kept)
        await database.close()

    # On a thread of its own: who calls may have an event loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, add()).result()
    return text
