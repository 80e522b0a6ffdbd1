"""What tests with real databases share: one server of each kind for the whole run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services import servers


@contextmanager
def _directory() -> Iterator[Path]:
    """Yield one that servers may enter as somebody else: every run of pytest closes pytest's own to others."""
    with tempfile.TemporaryDirectory(prefix="corral-services-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with _directory() as directory, servers.postgres(directory) as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3]:
    with _directory() as directory, servers.s3(directory) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    with _directory() as directory, servers.redis(directory) as url:
        yield url
