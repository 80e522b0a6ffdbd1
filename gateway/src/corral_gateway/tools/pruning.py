"""How much is kept of what tools were: the last versions of each, and what tasks that have not ended may run.

Who registered what stands in the audit, whatever goes here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from corral_gateway.storage.models import UNFINISHED, TaskRow, ToolChangeRow, ToolRow
from corral_gateway.tools.changes import EVERYBODYS

#: Of tools that are gone so many names are remembered with their history, those that went last.
_MOST_GONE = 1000
#: Removed at once, so that nobody waits long for the database.
_AT_ONCE = 100


async def prune(session: AsyncSession, name: str, keep: int, namespace: str = EVERYBODYS) -> int:
    """Remove the oldest versions of a tool.

    Args:
        session: of the transaction that has changed it.
        name: the tool's, with hyphens.
        keep: so many versions, the last ones, always stay.
        namespace: of the cluster whose tool it is, where the cluster keeps it for those who run it.

    Returns:
        How many there are then. They are more than ``keep`` where tasks that have not ended name the tool: what was
        registered when the oldest of them was taken in, or later, stays.
    """
    query = select(ToolChangeRow.number, ToolChangeRow.at).where(
        ToolChangeRow.namespace == namespace, ToolChangeRow.name == name
    )
    found = (await session.execute(query.order_by(ToolChangeRow.number.desc()))).all()
    old = found[keep:]
    if not old:
        return len(found)
    since = None if namespace else await session.scalar(_oldest_task(name))
    gone = superseded([(number, at) for number, at in old], since)
    await _remove(session, ToolChangeRow.number, gone)
    return len(found) - len(gone)


def superseded(versions: Sequence[tuple[int, datetime]], since: datetime | None) -> Sequence[int]:
    """Return the numbers of those of a tool's versions that nothing has named since a moment.

    Args:
        versions: their numbers and when they were registered, newest first.
        since: None: nothing names any of them.
    """
    if since is None:
        return [number for number, _at in versions]
    # The newest that is not newer than the moment was the one that counted then.
    before = [number for number, at in versions if at <= since]
    return before[1:]


async def prune_gone(session: AsyncSession, namespace: str = EVERYBODYS) -> None:
    """Remove the histories of tools that went long ago: names cost nothing, so there would be no end of them."""
    last = func.max(ToolChangeRow.number)
    query = select(ToolChangeRow.name, func.max(ToolChangeRow.at)).where(_is_gone(namespace))
    query = query.where(ToolChangeRow.namespace == namespace).group_by(ToolChangeRow.name)
    names = (await session.execute(query.order_by(last.desc()).offset(_MOST_GONE).limit(_AT_ONCE))).all()
    removed = []
    for name, at in names:
        since = None if namespace else await session.scalar(_oldest_task(name))
        if since is None or at < since:
            removed.append(name)
    await _remove(session, ToolChangeRow.name, removed, namespace)


def _is_gone(namespace: str) -> ColumnElement[bool]:
    """Return whether a change is of a tool that is not there any more."""
    if not namespace:
        return ToolChangeRow.name.not_in(select(ToolRow.name))
    # The cluster has the tools; what callers did to them here ends with a deletion.
    latest = select(func.max(ToolChangeRow.number)).where(ToolChangeRow.namespace == namespace)
    deleted = select(ToolChangeRow.name).where(
        ToolChangeRow.number.in_(latest.group_by(ToolChangeRow.name)), ToolChangeRow.manifest.is_(None)
    )
    return ToolChangeRow.name.in_(deleted)


def _oldest_task(name: str) -> Select[datetime]:
    """Return when the oldest task was taken in that has not ended and may name a tool: a chain may name any."""
    names = or_(TaskRow.tool.is_(None), func.replace(TaskRow.tool, "_", "-") == name)
    return select(TaskRow.created_at).where(UNFINISHED, names).order_by(TaskRow.created_at).limit(1)


async def _remove(
    session: AsyncSession,
    column: InstrumentedAttribute[Any],
    values: Sequence[object],
    namespace: str | None = None,
) -> None:
    for first in range(0, len(values), _AT_ONCE):
        removal = delete(ToolChangeRow).where(column.in_(values[first : first + _AT_ONCE]))
        if namespace is not None:
            removal = removal.where(ToolChangeRow.namespace == namespace)
        await session.execute(removal)
