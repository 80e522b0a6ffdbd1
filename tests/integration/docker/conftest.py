"""Backends for the tests of the Docker backend: one daemon, one backend of a kind, every call in a container alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import docker
import pytest
import pytest_asyncio

from corral.sandbox.docker import DockerBackend
from corral.sandbox.profile import Profile
from integration.sandbox.canary import Canary
from sandboxes import Lab


@pytest.fixture(scope="session")
def daemon() -> Iterator[docker.APIClient]:
    """Speak to the daemon as anybody could. Without one these tests fail: they were asked for."""
    client = docker.APIClient(version="1.41", **docker.utils.kwargs_from_env())
    yield client
    client.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(daemon: docker.APIClient) -> AsyncIterator[Lab]:
    async with DockerBackend(waiting=2) as backend:
        yield Lab(backend)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cells(lab: Lab) -> Lab:
    """What the embedded sandbox's tests call the ordinary way."""
    return lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def without(daemon: docker.APIClient) -> AsyncIterator[Callable[..., Lab]]:
    """Backends without some layers, each started once: ``without("seccomp", outer=("system",))``."""
    backends: dict[tuple[frozenset[str], frozenset[str]], DockerBackend] = {}

    def get(*layers: str, outer: tuple[str, ...] = ()) -> Lab:
        key = frozenset(layers), frozenset(outer)
        if key not in backends:
            backends[key] = DockerBackend(waiting=0, profile=Profile(*key))
        return Lab(backends[key])

    yield get
    await asyncio.gather(*(backend.close() for backend in backends.values()))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def canary(lab: Lab) -> AsyncIterator[Canary]:
    """A tool that does a little of everything, all the time, in a sandbox beside the others."""
    async with Canary.started(lab) as canary:
        yield canary
