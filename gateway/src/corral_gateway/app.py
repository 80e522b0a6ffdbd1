"""The gateway as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from corral import __version__
from corral.client import AsyncClient
from corral.cluster.kubernetes_api import KubernetesCluster
from corral_gateway import health, pages, problems
from corral_gateway.audit import router as audit_router
from corral_gateway.audit.trail import AuditTrail
from corral_gateway.breakers.breakers import breakers_of
from corral_gateway.budgets import router as budget_routes
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.ending import Ending
from corral_gateway.entrance import Entrance
from corral_gateway.grpc.server import GrpcServer
from corral_gateway.identity import router as identity
from corral_gateway.identity.wiring import authentication_of
from corral_gateway.life import Life, Readiness, Waiters
from corral_gateway.measuring import Measuring
from corral_gateway.metrics import Metrics
from corral_gateway.policy import CallerPolicies
from corral_gateway.rate_limits import RateLimits
from corral_gateway.rates.open_requests import OpenRequests
from corral_gateway.services import Services
from corral_gateway.serving.overdue import Overdue
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks import files_router
from corral_gateway.tasks import router as tasks
from corral_gateway.tasks.host_access import NoHostPaths
from corral_gateway.tasks.maxima import Maxima
from corral_gateway.tasks.service import Guard, TaskService
from corral_gateway.tasks.wiring import Engine, engine_for
from corral_gateway.tools import registration_router
from corral_gateway.tools import router as tools
from corral_gateway.tools.execution import ToolExecution
from corral_gateway.tools.result_cache import ResultCache
from corral_gateway.tracing import Tracing

if TYPE_CHECKING:
    from corral_gateway.tasks.port import TaskObserver

#: What pages of other origins may read of an answer's head.
_EXPOSED = (
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
)
_ROUTERS = (
    health.router,
    identity.router,
    tasks.router,
    files_router.router,
    tools.router,
    registration_router.router,
    audit_router.router,
    budget_routes.router,
)
_DESCRIPTION = """Runs what AI agents want to run, each tool call alone in a single-use sandbox.

Requests need a key, sent as `X-API-Key: corral_…` or `Authorization: Bearer corral_…`; on `/docs`, *Authorize* takes
it. An admin makes keys: `corral keys create`. Every refusal is `application/problem+json` with a stable `reason`.
"""


def create_app(settings: Settings, database: Database, runs: AsyncClient | KubernetesCluster) -> FastAPI:
    """Make the application.

    Args:
        settings: what it may take in and run.
        database: migrated; closed by who opened it.
        runs: tasks, on this machine or in a cluster; closed by who opened it.

    Raises:
        ListenError: gRPC cannot listen where the settings say.
    """
    metrics, gateway_life, waiters = Metrics(), Life(), Waiters()
    limits = RateLimits(settings, metrics)
    authentication = authentication_of(settings, database)
    tracing = None if settings.traces_endpoint is None else Tracing.to(settings.traces_endpoint)
    policies = CallerPolicies(settings)
    audit = AuditTrail(settings, database, metrics)
    metrics.audit_waiting.set_function(lambda: audit.waiting)
    budgets, breakers = Budgets(settings, database, metrics), breakers_of(settings)
    observers: list[TaskObserver] = [metrics, policies, audit.auditing, budgets]
    guards: list[Guard] = [gateway_life, NoHostPaths(), Maxima(settings), policies, limits]
    if breakers is not None:
        observers.append(breakers)
        guards.append(breakers)
        breakers.show(metrics.breakers)
    if tracing is not None:
        observers.append(tracing)
    engine = engine_for(runs, database, settings, observers, policy_of=policies.of, budgets=budgets)
    # Budgets last: what they hold is written down.
    guards += [*engine.guards, budgets]
    _show(engine, metrics)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        # What ends last comes first. One that fails at it takes nothing from the others.
        async with AsyncExitStack() as ending:
            ending.callback(limits.close)
            if tracing is not None:
                ending.push_async_callback(asyncio.to_thread, tracing.close)
            ending.push_async_callback(authentication.close)
            ending.push_async_callback(budgets.close)
            ending.push_async_callback(audit.close)
            for part in engine.parts:
                ending.push_async_callback(part.close)
                await part.start()
            await audit.start()
            await budgets.start(engine.executor)
            ending.enter_context(gateway_life.serving())
            if grpc is not None:
                ending.push_async_callback(grpc.close)
                await grpc.start()
            yield

    app = FastAPIOffline(title="Corral", version=__version__, description=_DESCRIPTION, lifespan=life)
    service = TaskService(
        engine.executor, engine.tools, guards, engine.artifacts, audit.auditing, waiters=waiters
    )
    # Tools that work in a directory that outlives them answer for what is in it now.
    cache = ResultCache(settings.result_cache_size if settings.workspace_root is None else 0)
    services = app.state.services = Services(
        settings,
        metrics,
        Entrance(authentication, limits, audit.auditing, OpenRequests(settings.most_open_of_a_caller)),
        service,
        engine.tools,
        ToolExecution(service, cache, [metrics, audit.auditing]),
        audit,
        budgets,
        Readiness(gateway_life, lambda: audit.failing, engine.is_current),
        engine.registry,
        engine.runs_images,
        engine.retention,
    )
    grpc = app.state.grpc = GrpcServer.listening(services, tracing) if settings.grpc_port else None
    app.state.ending = Ending(
        gateway_life,
        engine.executor,
        waiters,
        grpc,
        drain_seconds=settings.drain_seconds,
        grace_seconds=settings.grace_seconds,
    )
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    pages.describe(app)
    _let_nobody_wait(app, settings.request_seconds)
    _let_pages_call(app, settings.cors_origins)
    app.add_middleware(
        Measuring, metrics=metrics, tracing=tracing, audit=audit.auditing, entrance=services.entrance
    )
    return app


def _let_nobody_wait(app: FastAPI, seconds: float) -> None:
    if seconds:
        app.add_middleware(Overdue, seconds=seconds)


def _let_pages_call(app: FastAPI, origins: Sequence[str]) -> None:
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        # Callers send keys in headers, never cookies: a page of another origin has nothing to ride on.
        allow_credentials=False,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key"],
        expose_headers=_EXPOSED,
    )


def _show(engine: Engine, metrics: Metrics) -> None:
    metrics.active_tasks.set_function(engine.active)
    metrics.waiting_tasks.set_function(engine.waiting)
    if engine.is_current is not None:
        metrics.cluster_connected.set_function(engine.is_current)
