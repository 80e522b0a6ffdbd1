"""An operator on an API server in memory, which a test lets lead."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from corral.artifacts.port import ArtifactStore
from corral.policy import Policy
from corral_operator.control.operator import Operator
from corral_operator.settings import Settings
from unit.operator.api_server import ApiServer, Json

KEY = b"k" * 32


class Replica:
    """An operator whose Lease the test holds."""

    def __init__(self, server: ApiServer, *, artifacts: ArtifactStore | None = None, **settings: Any) -> None:
        given = {"sweep_seconds": 3600, "verify_network_policy": False, **settings}
        self.operator = Operator(server, server, Settings(**given), Policy(), KEY, artifacts=artifacts)

    def lead(self, active: bool) -> None:  # noqa: FBT001 - as the Lease tells it
        self.operator._leadership.active = active
        self.operator._leadership_changed(active)

    @property
    def acts(self) -> bool:
        return self.operator._acting

    @property
    def idle(self) -> bool:
        """Nothing is being looked at, and nothing is done beside."""
        operator = self.operator
        return not (
            operator.tasks._workers._running
            or operator.pools._workers._running
            or operator._background._tasks
        )


@asynccontextmanager
async def running(
    server: ApiServer, *, leads: bool = True, artifacts: ArtifactStore | None = None, **settings: Any
) -> AsyncIterator[Replica]:
    """Run an operator's sweep, and stop it in the end."""
    replica = Replica(server, artifacts=artifacts, **settings)
    if leads:
        replica.lead(True)
    sweep = asyncio.get_running_loop().create_task(replica.operator._sweep_for_ever())
    try:
        yield replica
    finally:
        sweep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweep
        await replica.operator.close()


def status_of(server: ApiServer, name: str = "job") -> Json:
    found: Json = server.objects["agenttasks", "team", name].get("status", {})
    return found
