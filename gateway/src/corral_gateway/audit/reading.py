"""Finding records: filters, and pages that stay the same while more is recorded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select

from corral.api import time_text
from corral_gateway.audit.heads import SignedHead
from corral_gateway.audit.log import LOG, Stored, stored
from corral_gateway.audit.tables import audit_heads, audit_log, decisions
from corral_gateway.storage.database import Database

_PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted. What is None is of no matter."""

    caller: str | None = None
    kind: str | None = None
    tool: str | None = None
    reason: str | None = None
    since: datetime | None = None
    #: Before this.
    until: datetime | None = None
    #: Records of the request, and of the executions of the tasks that it made.
    request_id: str | None = None
    task: str | None = None


async def page(database: Database, wanted: AuditFilter, limit: int, before: int | None) -> list[Stored]:
    """Return records, newest first.

    Args:
        database: where the log lies.
        wanted: which records.
        limit: so many at most.
        before: those with a smaller number; None: from the end.
    """
    query = _query(wanted).order_by(audit_log.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(audit_log.c.seq < before)
    return await database.snapshot(lambda connection: stored(connection, query))


async def each(database: Database, wanted: AuditFilter) -> AsyncIterator[list[Stored]]:
    """Yield records some at a time, oldest first, up to where the log ends now; memory stays small."""
    last = await database.snapshot(lambda c: c.execute(select(func.max(audit_log.c.seq))).scalar_one())
    query = _query(wanted).where(audit_log.c.seq <= (last or 0)).order_by(audit_log.c.seq).limit(_PAGE)
    some = await _stored(database, query)
    while some:
        yield some
        some = (
            await _stored(database, query.where(audit_log.c.seq > some[-1].seq)) if len(some) == _PAGE else []
        )


async def heads(database: Database) -> list[SignedHead]:
    """Return the heads that were signed, oldest first."""
    query = select(audit_heads).order_by(audit_heads.c.seq)
    rows = await database.snapshot(lambda connection: connection.execute(query).mappings().all())
    return [SignedHead(**row) for row in rows]


async def _stored(database: Database, query: "Select[Any]") -> list[Stored]:
    return await database.snapshot(lambda connection: stored(connection, query))


def _query(wanted: AuditFilter) -> "Select[Any]":
    query = LOG
    for column, value in (
        (audit_log.c.caller, wanted.caller),
        (audit_log.c.kind, wanted.kind),
        (audit_log.c.tool, wanted.tool),
        (audit_log.c.reason, wanted.reason),
        (audit_log.c.task_uid, wanted.task),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(audit_log.c.time >= time_text(wanted.since))
    if wanted.until is not None:
        query = query.where(audit_log.c.time < time_text(wanted.until))
    if wanted.request_id is not None:
        made = select(decisions.c.task_uid).where(decisions.c.request_id == wanted.request_id)
        query = query.where(or_(audit_log.c.request_id == wanted.request_id, audit_log.c.task_uid.in_(made)))
    return query
