"""Registered tools in the database, and in the catalogue of every gateway and process that works on it."""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from corral.api import Tool
from corral.catalogue import Catalogue, normalise
from corral_gateway.identity.caller import Caller
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import ToolChangeRow, ToolRow
from corral_gateway.tools.changes import change_row, changes_of, kept_tool
from corral_gateway.tools.pruning import prune, prune_gone
from corral_gateway.tools.registry import (
    MOST_TOOLS,
    ToolBounds,
    ToolChange,
    ToolTakenError,
    TooManyToolsError,
    TooManyVersionsError,
)

log = logging.getLogger(__name__)

#: What another process registers is known here so much later at most.
_LOOK_EVERY_SECONDS = 1.0
#: While tasks that name a tool do not end, so many times as many versions of it are kept as otherwise, and no more.
_MOST_HELD = 10
#: Any number that nobody else locks in this database.
_REGISTRATION_LOCK = 0x746F6F6C73


class DatabaseTools:
    """Implements ``ToolRegistry`` and ``ToolSource``: the same tools for every caller, in one catalogue."""

    def __init__(self, database: Database, catalogue: Catalogue, bounds: ToolBounds) -> None:
        """Use a catalogue.

        Args:
            database: keeps what is registered.
            catalogue: with the tools that nobody replaces; kept as the database has it.
            bounds: how much of it.
        """
        self._bounds = bounds
        self._database = database
        self._catalogue = catalogue
        self._fixed = frozenset(map(normalise, catalogue.names()))
        #: Registered tools that the catalogue has, with the numbers of their last changes.
        self._known: dict[str, int] = {}
        self._looking = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn what is registered, and go on learning."""
        await self.look()
        self._work = asyncio.get_running_loop().create_task(self._look_for_ever(), name="registered tools")

    async def close(self) -> None:
        """End."""
        if self._work is not None:
            async with self._looking:
                self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def catalogue(self, caller: str) -> Catalogue:  # noqa: ARG002 - it does not depend on who asks
        """Return all tools; see ``ToolSource``."""
        return self._catalogue

    def is_fixed(self, name: str) -> bool:
        """Whether a tool ships with Corral."""
        return normalise(name) in self._fixed

    async def create(self, tool: Tool, caller: Caller) -> Tool:
        """Register a tool; see ``ToolRegistry``."""
        self._refuse_fixed(tool.name)
        tool = _unversioned(tool)
        try:
            async with self._database.writing() as session:
                await self._keep(session, tool, caller.name, replace=False)
        except IntegrityError:  # another one came in the same moment
            raise ToolTakenError(tool.name, builtin=False) from None
        await self.look()
        return tool

    async def put(self, tool: Tool, caller: Caller) -> tuple[Tool, bool]:
        """Register or replace a tool; see ``ToolRegistry``."""
        self._refuse_fixed(tool.name)
        tool = _unversioned(tool)
        while True:
            try:
                async with self._database.writing() as session:
                    is_new = await self._keep(session, tool, caller.name, replace=True)
                break
            except IntegrityError:  # another one made it in the same moment: replace that one
                continue
        await self.look()
        return tool, is_new

    async def delete(self, name: str, caller: Caller) -> bool:
        """Take a tool out; see ``ToolRegistry``."""
        self._refuse_fixed(name)
        async with self._database.writing() as session:
            await _one_at_a_time(session)
            row = await session.get(ToolRow, normalise(name))
            if row is not None:
                session.add(change_row(row.name, caller.name, None))
                await session.delete(row)
                await session.flush()
                await prune(session, row.name, self._bounds.versions)
                await prune_gone(session)
        await self.look()
        return row is not None

    async def history(self, name: str, caller: Caller) -> Sequence[ToolChange]:  # noqa: ARG002 - everybody's
        """Return what was done to a tool; see ``ToolRegistry``."""
        return await changes_of(self._database, name)

    async def look(self) -> None:
        """Bring the catalogue to what is registered, if anything was changed."""
        async with self._looking:
            async with self._database.reading() as session:
                found = await session.execute(select(ToolRow.name, ToolRow.change))
                there = {name: change for name, change in found if name not in self._fixed}
                if there == self._known:
                    return
                new = [name for name, change in there.items() if self._known.get(name) != change]
                rows = list(await session.scalars(select(ToolRow).where(ToolRow.name.in_(new))))
            for row in rows:
                self._catalogue.register(kept_tool(row.manifest), replace=True)
                self._known[row.name] = row.change
            for name in self._known.keys() - there.keys():
                self._catalogue.unregister(name)
                del self._known[name]

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            try:
                await self.look()
            except SQLAlchemyError as error:
                log.warning("registered tools could not be read: %s; again soon", error)

    async def _keep(self, session: AsyncSession, tool: Tool, caller: str, *, replace: bool) -> bool:
        """Write a tool down. Returns whether it is new."""
        await _one_at_a_time(session)
        name, manifest = normalise(tool.name), tool.to_wire()
        row = await session.get(ToolRow, name)
        if row is not None and not replace:
            raise ToolTakenError(tool.name, builtin=False)
        await self._refuse_too_many(session, row, caller)
        change = change_row(name, caller, manifest)
        session.add(change)
        await session.flush()  # which gives it its number
        versions = await prune(session, name, self._bounds.versions)
        if versions > _MOST_HELD * self._bounds.versions:
            raise TooManyVersionsError(tool.name, versions - 1)
        if row is None:
            session.add(ToolRow(name=name, change=change.number, manifest=manifest))
            await session.flush()
            return True
        row.change, row.manifest = change.number, manifest
        return False

    async def _refuse_too_many(self, session: AsyncSession, row: ToolRow | None, caller: str) -> None:
        """Refuse a tool that is one too many, of all or of a caller; one that they replace is theirs from then on."""
        count = select(func.count()).select_from(ToolRow)
        if row is None and (await session.scalar(count) or 0) >= MOST_TOOLS:
            raise TooManyToolsError(MOST_TOOLS, own=False)
        theirs = count.join(ToolChangeRow, ToolChangeRow.number == ToolRow.change)
        theirs = theirs.where(ToolChangeRow.caller == caller)
        if row is not None:
            theirs = theirs.where(ToolRow.name != row.name)
        if (await session.scalar(theirs) or 0) >= self._bounds.of_a_caller:
            raise TooManyToolsError(self._bounds.of_a_caller, own=True)

    def _refuse_fixed(self, name: str) -> None:
        if self.is_fixed(name):
            raise ToolTakenError(name, builtin=True)


async def _one_at_a_time(session: AsyncSession) -> None:
    """Let changes wait for each other, so that they are counted, and numbered in their order. SQLite does by itself."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(select(func.pg_advisory_xact_lock(_REGISTRATION_LOCK)))


def _unversioned(tool: Tool) -> Tool:
    """Return a tool without the version that it has in some cluster: here nobody counts versions."""
    return tool.model_copy(update={"metadata": tool.metadata.model_copy(update={"resource_version": None})})
