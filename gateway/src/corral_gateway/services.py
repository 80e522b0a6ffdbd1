"""The parts of one gateway, as every door sees them."""

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from corral_gateway.audit.trail import AuditTrail
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.entrance import Entrance
from corral_gateway.life import Readiness
from corral_gateway.metrics import Metrics
from corral_gateway.settings import Settings
from corral_gateway.tasks.retention import Retention
from corral_gateway.tasks.service import TaskService
from corral_gateway.tools.execution import ToolExecution
from corral_gateway.tools.listing import Listings
from corral_gateway.tools.registry import ToolRegistry
from corral_gateway.tools.source import ToolSource


@dataclass(frozen=True, slots=True)
class Services:
    """What HTTP routes and gRPC methods work with. Nothing here knows through which of them a request came."""

    settings: Settings
    metrics: Metrics
    entrance: Entrance
    tasks: TaskService
    tools: ToolSource
    execution: ToolExecution
    audit: AuditTrail
    budgets: Budgets
    readiness: Readiness
    #: Takes tools in; None: nobody registers any here.
    registry: ToolRegistry | None = None
    #: Tools may run in images of their own.
    runs_images: bool = True
    #: None where somebody else removes ended tasks, as in a cluster.
    retention: Retention | None = None
    listings: Listings = field(default_factory=Listings)


def services_of(request: HTTPConnection) -> Services:
    """Return the services of the application that serves a request."""
    return cast("Services", request.app.state.services)
