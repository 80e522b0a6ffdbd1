"""Tools that callers register in a cluster: ``Tool`` resources of the caller's namespace."""

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from corral.api import Tool
from corral.catalogue import Catalogue, normalise
from corral.cluster.port import (
    TOOLS,
    AlreadyExists,
    Cluster,
    ClusterError,
    Conflict,
    Json,
    NotFound,
    ObjectKey,
)
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.problems import ProblemError
from corral_gateway.storage.database import Database
from corral_gateway.tasks.cluster import refusals
from corral_gateway.tasks.cluster.namespaces import Namespaces
from corral_gateway.tasks.cluster.tool_bodies import (
    manager_of,
    new_body,
    registered_by,
    replacing_body,
    tool_of,
)
from corral_gateway.tasks.cluster.tools import ClusterTools
from corral_gateway.tasks.stamps import caller_label
from corral_gateway.tools.changes import change_row, changes_of
from corral_gateway.tools.pruning import prune, prune_gone
from corral_gateway.tools.registry import (
    MOST_TOOLS,
    ToolBounds,
    ToolChange,
    ToolChangedError,
    ToolManagedElsewhereError,
    ToolTakenError,
    TooManyToolsError,
)

log = logging.getLogger(__name__)

#: Callers who replace one tool at once all do, one after another; a writer that never rests stops nobody for ever.
_ATTEMPTS = 20
#: RFC 1123, as Kubernetes wants the name of a resource.
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", re.ASCII)


class ClusterToolRegistry:
    """Implements ``ToolRegistry``: the same tools for every caller of a namespace.

    The API server keeps them, the gateway's database keeps what callers did to them here. What others do to them, with
    kubectl or Helm, is not in that history.
    """

    def __init__(
        self,
        cluster: Cluster,
        tools: ClusterTools,
        namespaces: Namespaces,
        database: Database,
        bounds: ToolBounds,
    ) -> None:
        """Make it.

        Args:
            cluster: for requests.
            tools: what the watch knows.
            namespaces: whose tools are where.
            database: keeps the history.
            bounds: of each namespace.
        """
        self._cluster = cluster
        self._tools = tools
        self._namespaces = namespaces
        self._database = database
        self._bounds = bounds
        #: One change of a namespace's tools after another, so that they are counted.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._fixed = frozenset(map(normalise, Catalogue.builtin().names()))

    async def create(self, tool: Tool, caller: Caller) -> Tool:
        """Register a tool; see ``ToolRegistry``."""
        namespace = self._place(tool.name, caller)
        try:
            async with self._locks[namespace]:
                if await self._there(namespace, tool.name) is not None:
                    raise ToolTakenError(tool.name, builtin=False)
                self._refuse_too_many(namespace, None, caller)
                body = new_body(tool, namespace, caller.name)
                made = await self._cluster.create(TOOLS, namespace, body)
                return await self._written(made, tool, caller)
        except AlreadyExists:
            raise ToolTakenError(tool.name, builtin=False) from None
        except ClusterError as error:
            raise _refusal(error, namespace) from error

    async def put(self, tool: Tool, caller: Caller) -> tuple[Tool, bool]:
        """Register or replace a tool; see ``ToolRegistry``."""
        namespace = self._place(tool.name, caller)
        try:
            async with self._locks[namespace]:
                for _ in range(_ATTEMPTS):
                    there = await self._there(namespace, tool.name)
                    _refuse_other_version(tool, there)
                    try:
                        made = await self._put_once(tool, there, namespace, caller)
                    except (AlreadyExists, Conflict, NotFound):
                        continue  # somebody was faster: what is there now is what is replaced
                    return await self._written(made, tool, caller), there is None
        except ClusterError as error:
            raise _refusal(error, namespace) from error
        raise ToolChangedError(tool.name)

    async def delete(self, name: str, caller: Caller) -> bool:
        """Take a tool out; see ``ToolRegistry``."""
        namespace = self._place(name, caller)
        try:
            there = await self._there(namespace, name)
            if there is None:
                return False
            _refuse_foreign(there, caller)
            uid = there["metadata"]["uid"]
            await self._cluster.delete(TOOLS, ObjectKey(namespace, there["metadata"]["name"], uid))
        except ClusterError as error:
            raise _refusal(error, namespace) from error
        await self._remember(name, namespace, caller, None)
        await self._tools.deleted(uid)
        return True

    async def history(self, name: str, caller: Caller) -> Sequence[ToolChange]:
        """Return what callers did to a tool here; see ``ToolRegistry``."""
        return await changes_of(self._database, name, namespace=self._namespaces.of(caller.name))

    def _place(self, name: str, caller: Caller) -> str:
        """Return the namespace of a caller's tools, where a tool of this name may be theirs."""
        if normalise(name) in self._fixed:
            raise ToolTakenError(name, builtin=True)
        return self._namespaces.of(caller.name)

    async def _there(self, namespace: str, name: str) -> Json | None:
        # What no tool can be called, the API server might take for something else.
        if not _NAME.fullmatch(normalise(name)):
            return None
        try:
            return await self._cluster.get(TOOLS, namespace, normalise(name))
        except NotFound:
            return None

    async def _put_once(self, tool: Tool, there: Json | None, namespace: str, caller: Caller) -> Json:
        if there is not None:
            _refuse_foreign(there, caller)
        self._refuse_too_many(namespace, there, caller)
        if there is None:
            return await self._cluster.create(TOOLS, namespace, new_body(tool, namespace, caller.name))
        return await self._cluster.replace(TOOLS, namespace, replacing_body(tool, there, caller.name))

    def _refuse_too_many(self, namespace: str, there: Json | None, caller: Caller) -> None:
        """Refuse a tool that is one too many, of all or of a caller; one that they replace is theirs from then on."""
        counts, own = self._tools.registered(namespace), caller_label(caller.name)
        if there is None and counts.total() >= MOST_TOOLS:
            raise TooManyToolsError(MOST_TOOLS, own=False)
        whose = None if there is None else registered_by(there)
        becomes_theirs = there is None or whose not in {None, own}
        if becomes_theirs and counts[own] >= self._bounds.of_a_caller:
            raise TooManyToolsError(self._bounds.of_a_caller, own=True)

    async def _written(self, body: Json, tool: Tool, caller: Caller) -> Tool:
        """Return a tool that was written, once whoever asks for it finds it."""
        await self._remember(tool.name, body["metadata"]["namespace"], caller, tool)
        await self._tools.written(body)
        return tool_of(body)

    async def _remember(self, name: str, namespace: str, caller: Caller, tool: Tool | None) -> None:
        if tool is not None:
            metadata = tool.metadata.model_copy(update={"resource_version": None})
            tool = tool.model_copy(update={"metadata": metadata})
        manifest = None if tool is None else tool.to_wire()
        try:
            async with self._database.writing() as session:
                session.add(change_row(name, caller.name, manifest, namespace=namespace))
                await session.flush()
                await prune(session, normalise(name), self._bounds.versions, namespace)
                if tool is None:
                    await prune_gone(session, namespace)
        except SQLAlchemyError as error:
            # The cluster has it already: to say that it failed would be wrong. The audit has the request.
            log.warning("the history of the tool %s/%s lacks a change: %s", namespace, name, error)


def _refuse_other_version(tool: Tool, there: Json | None) -> None:
    """Hold a tool to the version that it is to replace, where it names one."""
    wanted = tool.metadata.resource_version
    if wanted is not None and (there is None or there["metadata"]["resourceVersion"] != wanted):
        raise ToolChangedError(tool.name)


def _refuse_foreign(there: Json, caller: Caller) -> None:
    """Keep callers from tools that somebody made past the gateway; not admins, nor who may do the same with kubectl."""
    may = Scope.KEYS_WRITE in caller.scopes or caller.kind == "kubernetes"
    if registered_by(there) is None and not may:
        raise ToolManagedElsewhereError(there["metadata"]["name"], manager_of(there))


def _refusal(error: ClusterError, namespace: str) -> ProblemError:
    problem = refusals.problem_of(error, namespace, "tool")
    log.warning("%s: %s: %s", namespace, problem.reason, error)
    return problem
