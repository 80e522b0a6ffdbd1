"""M2: a tool breaks each limit; the task ends with that limit's own reason, and nobody else notices."""

import pytest

from integration.sandbox.canary import Canary
from sandboxes import Lab

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_M2_memory_limit_names_oom(lab: Lab, canary: Canary) -> None:
    async with canary.beside():
        ended = await lab.shell("echo before; exit 3")
    assert (ended.reason, ended.stdout) == ("ToolError", "before\n")
