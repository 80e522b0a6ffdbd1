"""What was done to registered tools, by whom: kept in the database, whatever keeps the tools themselves."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select

from corral.api import Tool
from corral.api.tool import TRUSTED
from corral.catalogue import normalise
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import ToolChangeRow
from corral_gateway.tools.registry import ToolChange

#: Of the tools that all callers share, because the gateway keeps them itself.
EVERYBODYS = ""
_MOST_CHANGES = 100


def change_row(
    name: str, caller: str, manifest: dict[str, object] | None, *, namespace: str = EVERYBODYS
) -> ToolChangeRow:
    """Return what is written down of a change that happens now.

    Args:
        name: of the tool, however it is spelt.
        caller: who changed it.
        manifest: the tool from then on; None: it was deleted.
        namespace: of the cluster, whose tool it is.
    """
    return ToolChangeRow(
        namespace=namespace,
        name=normalise(name),
        caller=caller,
        at=datetime.now(UTC),
        manifest=manifest,
    )


async def changes_of(database: Database, name: str, *, namespace: str = EVERYBODYS) -> Sequence[ToolChange]:
    """Return what was done to a tool, newest first, at most the last hundred changes."""
    query = select(ToolChangeRow).where(
        ToolChangeRow.namespace == namespace, ToolChangeRow.name == normalise(name)
    )
    async with database.reading() as session:
        rows = await session.scalars(query.order_by(ToolChangeRow.number.desc()).limit(_MOST_CHANGES))
        return [
            ToolChange(
                row.number, row.caller, row.at, None if row.manifest is None else kept_tool(row.manifest)
            )
            for row in rows
        ]


def kept_tool(manifest: dict[str, object]) -> Tool:
    """Return a tool from the database. Its schemas were checked when it was registered."""
    return Tool.model_validate(manifest, context={TRUSTED: True})
