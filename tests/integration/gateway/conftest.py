"""A gateway in this process, with a database and sandboxes of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.gateway.running import Gateway, gateway_in


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as running:
        yield running
