"""Removes records that are old enough: the oldest, as a whole, leaving a signed word of where the log begins now."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select

from corral.api import time_text
from corral_gateway.audit.chain import Head
from corral_gateway.audit.heads import SigningKey
from corral_gateway.audit.records import Kind, OfTheAudit, now
from corral_gateway.audit.store import DatabaseStore, keep_head
from corral_gateway.audit.tables import audit_end, audit_heads, audit_log, decisions, executions, requests

#: Removed in one transaction: others write between two of them.
_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal took away."""

    records: int
    #: The last of them; None: there were none.
    last: Head | None


async def prune(store: DatabaseStore, days: int) -> Removed:
    """Remove records older than so many days, sign where the log begins after that, and record it.

    A record stays while one before it is younger: clocks of two gateways differ, and the log keeps no holes.
    """
    before = now() - timedelta(days=days)
    records, last = 0, None
    while True:
        removed = await store.database.transaction(
            lambda connection: _remove_some(connection, before, store.key)
        )
        if removed.last is None:
            break
        records, last = records + removed.records, removed.last
    if last is not None:
        said = {"upTo": last.seq, "hash": last.hash, "records": records, "days": days}
        await store.append([OfTheAudit(Kind.AUDIT_REMOVED, said)])
    return Removed(records, last)


def _remove_some(connection: Connection, before: datetime, key: SigningKey) -> Removed:
    connection.execute(select(audit_end.c.seq).with_for_update()).one()
    first = connection.execute(select(func.min(audit_log.c.seq))).scalar_one()
    young = select(func.min(audit_log.c.seq)).where(audit_log.c.time >= time_text(before))
    young_seq = connection.execute(young).scalar_one()
    if first is None:
        return Removed(0, None)
    newest = connection.execute(select(func.max(audit_log.c.seq))).scalar_one()
    last = min((young_seq or newest + 1) - 1, first + _AT_ONCE - 1)
    if last < first:
        return Removed(0, None)
    digest = connection.execute(select(audit_log.c.hash).where(audit_log.c.seq == last)).scalar_one()
    head = Head(last, digest)
    connection.execute(delete(audit_heads).where(audit_heads.c.seq < last))
    keep_head(connection, key.sign(head, time_text(now()), "removed"))
    for table in (audit_log, requests, decisions, executions):
        connection.execute(delete(table).where(table.c.seq <= last))
    return Removed(last - first + 1, head)
