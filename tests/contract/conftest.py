"""The backends that the contract tests run against."""

import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.port import SandboxBackend
from sandboxes import Lab

#: A user whom the workspace of a test that runs as root can belong to.
NOBODY = 65534

#: Each backend that keeps the port's contract, by name. Add yours here, and nothing else.
BACKENDS: dict[str, Callable[[], SandboxBackend]] = {
    "embedded": lambda: EmbeddedBackend(waiting=2),
    "embedded-direct": lambda: EmbeddedBackend(waiting=2, cells=False),
}


@pytest.fixture(scope="session", params=BACKENDS)
def new_backend(request: pytest.FixtureRequest) -> Callable[[], SandboxBackend]:
    """Give the function that makes a backend, for tests of a backend's own life."""
    return BACKENDS[request.param]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(new_backend: Callable[[], SandboxBackend]) -> AsyncIterator[Lab]:
    """One backend of a kind for all tests: every execution is alone in its sandbox."""
    async with new_backend() as backend:
        yield Lab(backend)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory of the host that belongs to an ordinary user, as every workspace must."""
    path = tmp_path / "workspace"
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
        for folder in (path, *path.parents[:3]):
            # Only ever added: the last of them may be /tmp itself.
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o055)
    return path
