"""One harness for all tests, a namespace for each."""

from collections.abc import Iterator

import pytest

from faults.cluster import Harness
from faults.scene import Scene


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take nodes away last: whatever else runs in the cluster is done by then."""
    items.sort(key=lambda item: item.path.name == "test_nodes.py")


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


@pytest.fixture(scope="module")
def standing(harness: Harness) -> Iterator[Scene]:
    """Return a namespace with a pool and an operator, for a whole module."""
    made = Scene(harness)
    try:
        made.open(pool=3)
        made.operate()
        made.warm_up(3)
        yield made
    finally:
        made.close()


@pytest.fixture
def stage(standing: Scene) -> Iterator[Scene]:
    """Return that namespace for one test, which counts its own tasks; its faults end with it."""
    standing.warm_up(3)
    yield standing.fresh()
    standing.faults()
