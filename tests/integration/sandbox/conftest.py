"""Backends for the tests of the embedded sandbox: started once, used by all; every call has its own sandbox."""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.profile import Profile
from integration.sandbox.canary import Canary
from sandboxes import Lab

#: Both ways in which this machine makes sandboxes.
WAYS = ("cells", "direct")


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=WAYS)
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """Every test that asks for it runs once for each way of making sandboxes."""
    async with EmbeddedBackend(waiting=2, cells=request.param == "cells") as backend:
        yield Lab(backend)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cells() -> AsyncIterator[Lab]:
    """Cells alone, for what does not depend on how the sandbox is made."""
    async with EmbeddedBackend(waiting=2) as backend:
        yield Lab(backend)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def without() -> AsyncIterator[Callable[..., Lab]]:
    """Backends without some layers, each started once: ``without("seccomp", outer=("system",))``."""
    backends: dict[tuple[frozenset[str], frozenset[str]], EmbeddedBackend] = {}

    def get(*layers: str, outer: tuple[str, ...] = ()) -> Lab:
        key = frozenset(layers), frozenset(outer)
        if key not in backends:
            backends[key] = EmbeddedBackend(waiting=1, profile=Profile(*key))
        return Lab(backends[key])

    yield get
    for backend in backends.values():
        await backend.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def canary(cells: Lab) -> AsyncIterator[Canary]:
    """A tool that does a little of everything, all the time, in a sandbox beside the others."""
    async with Canary.started(cells) as canary:
        yield canary
