"""What runs tasks, put together: on this machine, or in a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from corral.artifacts.fsspec_store import FsspecStore
from corral.client import AsyncClient
from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import WatchedCluster
from corral_gateway.budgets.budgets import Budgets
from corral_gateway.policy import PolicyOf
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.artifacts import TaskArtifacts
from corral_gateway.tasks.cluster.executor import ClusterTasks
from corral_gateway.tasks.cluster.kept import KeptInCluster
from corral_gateway.tasks.cluster.namespaces import CALLER, Namespaces
from corral_gateway.tasks.cluster.runners import Runners
from corral_gateway.tasks.cluster.tool_registry import ClusterToolRegistry
from corral_gateway.tasks.cluster.tools import ClusterTools
from corral_gateway.tasks.embedded import EmbeddedTasks
from corral_gateway.tasks.port import Executor, TaskObserver
from corral_gateway.tasks.retention import Retention
from corral_gateway.tasks.room import FreeSpace, Room
from corral_gateway.tasks.service import Guard
from corral_gateway.tools.checking import Checks
from corral_gateway.tools.database_tools import DatabaseTools
from corral_gateway.tools.registry import ToolBounds, ToolRegistry
from corral_gateway.tools.source import ToolSource

#: Where a pod finds the name of its own namespace.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Part(Protocol):
    """Something that begins and ends with the gateway."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def close(self) -> None:
        """End, and lose nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs tasks, and what they may name."""

    executor: Executor
    tools: ToolSource
    #: Tasks that have not ended.
    active: Callable[[], int]
    #: Of them, those that have no sandbox yet.
    waiting: Callable[[], int]
    #: Takes tools in; None: nobody registers any here.
    registry: ToolRegistry | None
    #: Tools may run in images of their own.
    runs_images: bool
    artifacts: TaskArtifacts
    #: Removes ended tasks; None: somebody else does.
    retention: Retention | None
    #: In the order in which they begin.
    parts: Sequence[Part]
    #: Ask before a task is taken in, besides those that hold everywhere.
    guards: Sequence[Guard] = ()
    #: Whether the cluster tells what happens in it; None: there is none.
    is_current: Callable[[], bool] | None = None


def engine_for(
    runs: AsyncClient | KubernetesCluster,
    database: Database,
    settings: Settings,
    observers: Sequence[TaskObserver],
    *,
    policy_of: PolicyOf,
    budgets: Budgets,
) -> Engine:
    """Return the engine that ``runs`` tasks."""
    if isinstance(runs, AsyncClient):
        return embedded_engine(database, runs, settings, observers, policy_of=policy_of, budgets=budgets)
    return cluster_engine(database, runs, runs.apart(), settings, observers, budgets=budgets)


def embedded_engine(
    database: Database,
    client: AsyncClient,
    settings: Settings,
    observers: Sequence[TaskObserver],
    *,
    policy_of: PolicyOf,
    budgets: Budgets,
) -> Engine:
    """Return what runs tasks on this machine."""
    place = settings.artifacts_place
    store = None if place is None else FsspecStore(place)
    room = Room(budgets, FreeSpace(settings.artifacts_directory, settings.artifacts_free_space))
    artifacts = TaskArtifacts(store, settings.artifacts_task_size, room)
    retention = Retention(database, store, budgets.stored)
    # What the client knows from its beginning is its owner's; what is registered is somebody's.
    checks = Checks(client.catalogue.names())
    tools = DatabaseTools(database, client.catalogue, tool_bounds(settings))
    tasks = EmbeddedTasks(
        database, client, settings, observers, policy_of=policy_of, artifacts=artifacts, check=checks.check
    )
    return Engine(
        executor=tasks,
        tools=tools,
        active=lambda: tasks.active,
        waiting=lambda: tasks.places.waiting,
        registry=tools if settings.tool_registration else None,
        runs_images=client.backend_name == "docker",
        artifacts=artifacts,
        retention=retention,
        parts=[artifacts, checks, tools, tasks, retention],
    )


def cluster_engine(
    database: Database,
    cluster: WatchedCluster,
    watching: WatchedCluster,
    settings: Settings,
    observers: Sequence[TaskObserver],
    *,
    budgets: Budgets,
) -> Engine:
    """Return what has tasks run in a cluster."""
    namespaces = namespaces_of(settings)
    home = settings.operator_namespace or _own_namespace() or namespaces.default.replace(CALLER, "")
    tools = ClusterTools(watching, namespaces)
    kept = KeptInCluster(budgets, lambda: tasks)
    tasks = ClusterTasks(
        cluster,
        watching,
        namespaces,
        catalogue_of=tools.catalogue,
        runners=Runners(watching, home),
        observers=[*observers, kept],
        waiting_tasks=settings.waiting_tasks,
        waiting_tasks_each=settings.most_waiting_of_a_caller,
    )
    registry = ClusterToolRegistry(cluster, tools, namespaces, database, tool_bounds(settings))
    # A directory of this machine is none of the operator's, which reads what is sent here, and writes what is left.
    store = FsspecStore(settings.artifacts_url) if "://" in settings.artifacts_url else None
    artifacts = TaskArtifacts(store, settings.artifacts_task_size, Room(budgets, FreeSpace(None, 0)))
    return Engine(
        executor=tasks,
        tools=tools,
        active=lambda: tasks.active,
        waiting=lambda: tasks.waiting,
        registry=registry if settings.tool_registration else None,
        runs_images=True,
        artifacts=artifacts,
        retention=None,
        parts=[artifacts, kept, tasks, tools],
        guards=[kept],
        is_current=lambda: tasks.is_current,
    )


def tool_bounds(settings: Settings) -> ToolBounds:
    """Return how many tools, and how much of what they were, is kept."""
    return ToolBounds(settings.most_tools_of_a_caller, settings.tool_history)


def namespaces_of(settings: Settings) -> Namespaces:
    """Return which namespace a caller's tasks go to."""
    default = settings.namespace or _own_namespace() or "default"
    return Namespaces(default, settings.caller_namespaces, settings.watch_namespaces)


def _own_namespace() -> str | None:
    try:
        return _OWN_NAMESPACE.read_text().strip() or None
    except OSError:
        return None
