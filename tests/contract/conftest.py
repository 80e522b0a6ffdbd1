"""The backends that the contract tests run against."""

import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.port import SandboxBackend
from sandboxes import Lab

LAYERS = frozenset(
    {
        "userns",
        "pidns",
        "mountns",
        "netns",
        "ipcns",
        "utsns",
        "cgroupns",
        "rlimits",
        "seccomp",
        "landlock",
    }
)
#: A user whom the workspace of a test that runs as root can belong to.
NOBODY = 65534


@dataclass(frozen=True)
class Promise:
    """A backend, and what it says of itself."""

    make: Callable[[], SandboxBackend]
    isolation: frozenset[str] = LAYERS
    weakened: tuple[str, ...] = ()


def docker_backend() -> SandboxBackend:
    from corral.sandbox.docker import DockerBackend

    return DockerBackend(waiting=2)


#: Each backend that keeps the contract, by the name of ``--backend`` and of the way it makes sandboxes. Add yours
#: here, and nothing else.
BACKENDS: dict[str, dict[str, Promise]] = {
    "embedded": {
        "embedded": Promise(lambda: EmbeddedBackend(waiting=2)),
        "embedded-direct": Promise(lambda: EmbeddedBackend(waiting=2, cells=False)),
    },
    # Without a user namespace of the container's own (the daemon's userns-remap) the ceilings are the host's.
    "docker": {"docker": Promise(docker_backend, LAYERS - {"userns"}, ("ceilings",))},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "promise" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("backend") or ["embedded"]
        found = {name: promise for backend in chosen for name, promise in BACKENDS[backend].items()}
        metafunc.parametrize("promise", found.values(), ids=found, indirect=True, scope="session")


@pytest.fixture(scope="session")
def promise(request: pytest.FixtureRequest) -> Promise:
    """Give the backend under test."""
    found = request.param
    assert isinstance(found, Promise)
    return found


@pytest.fixture(scope="session")
def new_backend(promise: Promise) -> Callable[[], SandboxBackend]:
    """Give the function that makes a backend, for tests of a backend's own life."""
    return promise.make


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
