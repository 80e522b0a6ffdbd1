"""What a record makes of the tables ``requests``, ``decisions`` and ``executions``. Pure.

A row is a function of the last record about its subject alone, so that it can be checked against the log, and goes with
that record when that is removed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from corral_gateway.audit.chain import canonical
from corral_gateway.audit.records import Kind
from corral_gateway.audit.tables import decisions, executions, requests

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    table: Table
    key: tuple[Any, ...]
    values: dict[str, Any]


def row_of(record: Record) -> Row | None:
    """Return the row that a record makes; None: it makes none."""
    make = _MAKERS.get(record["kind"])
    return None if make is None else make(record)


def _request(record: Record) -> Row:
    begun = record["kind"] == Kind.REQUEST_BEGUN
    values = {
        "request_id": record["requestId"],
        "created_at": record["began"],
        "ended_at": None if begun else record["time"],
        "caller": record["caller"],
        "credential": record["credential"],
        "source": record["source"],
        "user_agent": record["userAgent"],
        "transport": record["transport"],
        "method": record["method"],
        "route": record["route"],
        "target": record["target"],
        "input": _json(record.get("input")),
        "status": record["status"],
        "code": record.get("code"),
        "reason": record.get("reason"),
        "duration_ms": _milliseconds(record),
        "count": record.get("count", 1),
        "seq": record["seq"],
    }
    return Row(requests, (record["requestId"],), values)


def _decision(record: Record) -> Row:
    values = {
        "seq": record["seq"],
        "created_at": record["time"],
        "request_id": record["requestId"],
        "task_uid": record["taskUid"],
        "caller": record["caller"],
        "selected_tools": ", ".join(record["tools"]),
        "reasoning": None,
        "allowed": record["allowed"],
        "decided_by": record["decidedBy"],
        "reason": record.get("reason"),
        "input": _json(record.get("input")),
    }
    return Row(decisions, (record["seq"],), values)


def _execution(record: Record) -> Row:
    values = {
        "task_uid": record["taskUid"],
        "execution": record["execution"],
        "attempt": record["attempt"],
        "created_at": record["time"],
        "caller": record["caller"],
        "tool_name": record["tool"],
        "input": _json(record.get("input")),
        "output": _json(record.get("output")),
        "status": record["status"],
        "reason": record.get("reason"),
        "error": record.get("error", record.get("errorType")),
        "duration_ms": _milliseconds(record),
        "usage": _json(record.get("usage")),
        "seq": record["seq"],
    }
    return Row(executions, (record["taskUid"], record["execution"], record["attempt"]), values)


_MAKERS: dict[str, Callable[[Record], Row]] = {
    Kind.REQUEST_BEGUN: _request,
    Kind.REQUEST_ENDED: _request,
    Kind.REQUEST_REFUSED: _request,
    Kind.DECISION: _decision,
    Kind.EXECUTION: _execution,
}


def _json(value: Any) -> str | None:
    """Return a value as people read it best: what was kept, where it was, else its hash."""
    return (
        None if value is None else canonical(value.get("value", value) if isinstance(value, dict) else value)
    )


def _milliseconds(record: Record) -> int | None:
    micro = record.get("durationMicroseconds")
    return None if micro is None else round(micro / 1000)
