"""Fixtures: ``corral`` in a directory of its own, in a pipe and on a terminal."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from integration.cli.harness import Corral, Terminal, start_on_terminal


@pytest.fixture
def corral(tmp_path: Path) -> Corral:
    """The command in a pipe."""
    return Corral(tmp_path)


@pytest.fixture
def on_terminal(corral: Corral) -> Iterator[Callable[..., Terminal]]:
    """Starts the command on a terminal; what still runs after the test is ended."""
    started: list[Terminal] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None) -> Terminal:
        started.append(start_on_terminal(corral, *arguments, env=env))
        return started[-1]

    yield start
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.send_signal(signal.SIGKILL)
            terminal.process.wait()
        os.close(terminal.master)


@pytest.fixture
def mark() -> str:
    """A number of seconds to sleep that no other process on this machine has on its command line."""
    return f"{3000 + os.getpid() % 1000}.{time.monotonic_ns()}"
