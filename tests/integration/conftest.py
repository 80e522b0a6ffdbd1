"""What the tests that start sandboxes share."""

from collections.abc import Iterator

import pytest

from corral.client import Client


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """One client for the session: every call is alone in its sandbox anyway."""
    with Client(waiting=4) as client:
        yield client
