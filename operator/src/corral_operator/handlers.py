"""What kopf does here: it watches, keeps the order per object, and runs the process. It decides nothing."""

from typing import Any

import kopf

from corral.cluster.kubernetes_api import TASKS_PAGE
from corral.cluster.port import AGENT_TASKS, PODS, POOLS, TOOLS, Resource
from corral_operator.control.operator import Operator
from corral_operator.names import SANDBOX_LABEL


def registry_for(operator: Operator) -> kopf.OperatorRegistry:
    """Return kopf's registry with the four watches.

    Only ``on.event``: kopf then writes nothing of its own to the objects, neither finalizers, which would block
    deletion while the operator is down, nor annotations.
    """
    registry = kopf.OperatorRegistry()
    for resource in (AGENT_TASKS, PODS, POOLS, TOOLS):
        kopf.on.event(
            resource.group,
            resource.version,
            resource.plural,
            registry=registry,
            id=resource.plural,
        )(_listener(operator, resource))
    kopf.on.login(registry=registry, id="service-account")(kopf.login_with_service_account)
    kopf.on.login(registry=registry, id="kubeconfig")(kopf.login_with_kubeconfig)
    return registry


def _listener(operator: Operator, resource: Resource) -> Any:
    async def listen(event: Any, **_: Any) -> None:
        operator.heard(event["type"], resource, event["object"])

    return listen


def watch_settings() -> kopf.OperatorSettings:
    """Return kopf's settings."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # kopf would post an Event per log line
    settings.scanning.disabled = True  # the resources are there when the operator starts, or it starts again
    # A watch that stands still without closing is found out by these; what it missed, by the sweep.
    settings.watching.server_timeout = 60
    settings.watching.inactivity_timeout = 90
    # The list before a watch: as the sweep's, see ``cluster.kubernetes_api``. Without it kopf asks for all at once.
    settings.watching.chunk_size = TASKS_PAGE
    settings.watching.label_selectors[PODS.plural] = f"{SANDBOX_LABEL}=true"
    # A worker per object ends soon after its last event: thousands of tasks come and go.
    settings.queueing.idle_timeout = 0.5
    settings.process.ultimate_exiting_timeout = 15
    return settings
