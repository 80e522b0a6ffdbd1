"""One harness for all tests, a namespace for each."""

from collections.abc import Iterator

import pytest
from faults.cluster import Harness
from faults.scene import Scene


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """Return the harness in its pod."""
    made = Harness()
    yield made
    made.close()


@pytest.fixture
def scene(harness: Harness) -> Iterator[Scene]:
    """Return a namespace of its own, gone afterwards with its operators."""
    made = Scene(harness)
    yield made
    made.close()
