"""Starts gateways, and speaks to them as callers do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
from fastapi import FastAPI
from prometheus_client import generate_latest

from corral.client import AsyncClient
from corral.cluster.port import WatchedCluster
from corral_gateway.app import create_app
from corral_gateway.identity.api_key import make_key
from corral_gateway.identity.caller import EVERYTHING, Reach
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Role, Scope
from corral_gateway.policy import policy_of
from corral_gateway.services import Services
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.embedded import EmbeddedTasks

if TYPE_CHECKING:
    from corral.cluster.kubernetes_api import KubernetesCluster

CALCULATE = {"tool": "calculator", "arguments": {"expression": "6*7"}}
SLEEP = {"tool": "shell", "arguments": {"command": "echo begun; sleep 60"}}


@dataclass
class Gateway:
    """One that runs."""

    app: FastAPI
    keys: KeyStore

    @property
    def services(self) -> Services:
        """Its parts."""
        return cast("Services", self.app.state.services)

    @property
    def metrics_text(self) -> str:
        """What Prometheus would read now."""
        return generate_latest(self.services.metrics.registry).decode()

    @property
    def executor(self) -> EmbeddedTasks:
        """What runs its tasks."""
        return cast("EmbeddedTasks", self.services.tasks._executor)

    def hold_windows(self) -> None:
        """Let no window of its rate limits end while a test counts in it: each lies between two whole minutes."""
        self.services.entrance._limits._clock = lambda: 3601.0

    async def key(
        self,
        caller: str,
        role: Role = Role.RUNNER,
        *,
        expires_at: datetime | None = None,
        narrowed_to: frozenset[Scope] | None = None,
        reach: Reach = EVERYTHING,
    ) -> str:
        """Make a key; return what its owner was shown."""
        kept, text = make_key(
            caller, role, datetime.now(UTC), expires_at, narrowed_to=narrowed_to, reach=reach
        )
        await self.keys.add(kept)
        return text

    def http(self, key: str | None = None) -> httpx.AsyncClient:
        """Return a client of somebody who has a key, or none."""
        headers = {} if key is None else {"X-API-Key": key}
        # What is raised inside must become an answer here, as it does behind a server.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers, timeout=60)

    async def caller(self, name: str = "someone", role: Role = Role.RUNNER) -> httpx.AsyncClient:
        """Return a client of a caller."""
        return self.http(await self.key(name, role))


@asynccontextmanager
async def gateway_before(cluster: WatchedCluster, directory: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """Run a gateway in front of a cluster, whose tasks nobody runs."""
    where: dict[str, Any] = {"CORRAL_EXECUTOR": "cluster", "CORRAL_NAMESPACE": "team", **settings}
    given = Settings(_env_file=None, CORRAL_DATA_DIR=directory, **where)
    database = Database(given.database_url)
    await database.migrate()
    try:
        app = create_app(given, database, cast("KubernetesCluster", cluster))
        async with app.router.lifespan_context(app):
            yield Gateway(app, KeyStore(database))
    finally:
        await database.close()


@asynccontextmanager
async def gateway_in(
    directory: Path, *, client: AsyncClient | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway whose database lies in a directory; with a client of somebody's own, for weaker rules."""
    given = Settings(_env_file=None, CORRAL_DATA_DIR=directory, **settings)
    database = Database(given.database_url)
    await database.migrate()
    runs = client or AsyncClient(waiting=0, backend="embedded", policy=policy_of(given))
    try:
        async with runs:
            app = create_app(given, database, runs)
            async with app.router.lifespan_context(app):
                yield Gateway(app, KeyStore(database))
    finally:
        await database.close()


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of an answer that refuses something, in the one shape that refusals have."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:corral:problem:{body['reason']}"
    assert body["requestId"] == answer.headers["x-request-id"]
    assert body["detail"]
    return answer.status_code, body["reason"]
