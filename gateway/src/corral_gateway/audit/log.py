"""The log in the database: records go to its end, under one lock, with the rows that show them. Never changed again.

What is here is ordinary code on a connection. SQLite runs it in a thread, PostgreSQL through its asynchronous driver.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from corral.api import time_text
from corral_gateway.audit.chain import START, Head, canonical, link
from corral_gateway.audit.masking import Keep
from corral_gateway.audit.projection import row_of
from corral_gateway.audit.records import ExecutionEnded, Happening, Kind
from corral_gateway.audit.tables import audit_end, audit_log, decisions, executions, requests

log = logging.getLogger(__name__)

_PAGE = 500
# Made once: putting a statement together takes longer than running it.
_LOCKED_END = select(audit_end.c.seq, audit_end.c.hash).with_for_update()
_APPEND = insert(audit_log)
_EXECUTION_KEY = executions.c.task_uid, executions.c.execution, executions.c.attempt
_KNOWN_EXECUTIONS = select(*_EXECUTION_KEY).where(
    tuple_(*_EXECUTION_KEY).in_(bindparam("keys", expanding=True))
)
_MOVE_END = update(audit_end).values(seq=bindparam("last_seq"), hash=bindparam("last_hash"))


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lies in the log."""

    seq: int
    time: str
    kind: str
    #: Canonical JSON.
    record: str
    previous: str
    hash: str

    @property
    def said(self) -> dict[str, Any]:
        """The record."""
        found: dict[str, Any] = json.loads(self.record)
        return found

    def exported(self) -> str:
        """Return it as a line of an export, which ``corral audit verify --file`` can check by itself."""
        return f'{{"hash":"{self.hash}","previous":"{self.previous}","record":{self.record}}}\n'


def append(connection: Connection, happenings: Sequence[Happening], keep: Keep) -> tuple[Head, int]:
    """Add records to the end of the log, in order, and show them in the tables.

    Executions that the log has already are left out: two gateways may watch the same cluster.

    Args:
        connection: in a transaction that nobody else can write beside.
        happenings: what to record.
        keep: what of arguments and output.

    Returns:
        The end of the log, and how many records were added.
    """
    head = _locked_end(connection)
    known = _known_executions(connection, happenings)
    added: list[dict[str, Any]] = []
    rows: dict[Table, dict[tuple[Any, ...], dict[str, Any]]] = {requests: {}, decisions: {}, executions: {}}
    seq, previous = head.seq, head.hash
    for one in happenings:
        if isinstance(one, ExecutionEnded):
            if one.key in known:
                continue
            known.add(one.key)
        record = {"seq": seq + 1, "time": time_text(one.at), **_said(one, keep)}
        text = canonical(record)
        digest = link(previous, text)
        added.append(_log_row(record, text, previous, digest))
        row = row_of(record)
        if row is not None:
            rows[row.table][row.key] = row.values
        seq, previous = seq + 1, digest
    if not added:
        return head, 0
    connection.execute(_APPEND, added)
    for table, found in rows.items():
        if found:
            connection.execute(_upsert(connection.dialect.name, table), list(found.values()))
    connection.execute(_MOVE_END, {"last_seq": seq, "last_hash": previous})
    return Head(seq, previous), len(added)


def end_of(connection: Connection) -> Head:
    """Return where the log ends, as it is written down."""
    row = connection.execute(select(audit_end.c.seq, audit_end.c.hash)).one_or_none()
    return START if row is None else Head(row.seq, row.hash)


def stored(connection: Connection, query: "Select[Any]") -> list[Stored]:
    """Return the records that a query of ``LOG`` finds."""
    return [Stored(*row) for row in connection.execute(query)]


#: The columns of ``Stored``.
LOG = select(
    audit_log.c.seq,
    audit_log.c.time,
    audit_log.c.kind,
    audit_log.c.record,
    audit_log.c.previous,
    audit_log.c.hash,
)


def searchable(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that have columns of their own."""
    return {
        "time": record["time"],
        "kind": record["kind"],
        "request_id": record.get("requestId"),
        "task_uid": record.get("taskUid"),
        "caller": record.get("caller"),
        "tool": record.get("tool"),
        "reason": record.get("reason"),
    }


def _said(one: Happening, keep: Keep) -> dict[str, Any]:
    try:
        return {"kind": one.kind.value, **one.body(keep)}
    # One that cannot be told must not keep all after it from being recorded.
    except Exception as error:
        log.exception("a record of kind %s could not be made", one.kind)
        return {"kind": Kind.AUDIT_DAMAGED.value, "of": one.kind.value, "error": type(error).__name__}


def _log_row(record: dict[str, Any], text: str, previous: str, digest: str) -> dict[str, Any]:
    return {
        "seq": record["seq"],
        **searchable(record),
        "record": text,
        "previous": previous,
        "hash": digest,
    }


def _locked_end(connection: Connection) -> Head:
    row = connection.execute(_LOCKED_END).one()
    return Head(row.seq, row.hash)


def _known_executions(connection: Connection, happenings: Sequence[Happening]) -> set[tuple[str, str, int]]:
    asked = [one.key for one in happenings if isinstance(one, ExecutionEnded)]
    if not asked:
        return set()
    return {
        (row[0], row[1], row[2])
        for few in _pages(asked)
        for row in connection.execute(_KNOWN_EXECUTIONS, {"keys": few})
    }


def _pages(keys: list[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    for start in range(0, len(keys), _PAGE):
        yield keys[start : start + _PAGE]


@cache
def _upsert(dialect: str, table: Table) -> Any:
    module = postgresql if dialect == "postgresql" else sqlite
    statement = module.insert(table)
    if table is not requests:
        return statement
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changed)
