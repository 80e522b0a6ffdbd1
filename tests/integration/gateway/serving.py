"""Serves by the real command, in a process of its own, over a real socket."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventually import eventually

CORRAL = Path(sys.executable).with_name("corral")


def corral(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a gateway lives."""
    return subprocess.run(
        [CORRAL, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(
    directory: Path, metrics_port: int = 0, **settings: str
) -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    """Serve on a free port; yield its address, its log and its process."""
    log = directory / "serve.log"
    env = {**os.environ, "PORT": "0", "CORRAL_METRICS_PORT": str(metrics_port), **settings}
    with log.open("wb") as file:
        process = subprocess.Popen([CORRAL, "serve"], cwd=directory, env=env, stdout=file, stderr=file)
    try:
        address = eventually(lambda: re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()))
        assert address is not None
        yield address[1], log, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def new_key(directory: Path, caller: str = "someone", role: str = "runner") -> str:
    """Make a key of the gateway that lives there."""
    made = corral(directory, "keys", "create", caller, "--role", role)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip().splitlines()[0]
