"""The tables of the audit. Changed by a migration only: ``storage/migrations``.

Times are texts of one width, as they stand in the hashed record: they sort as they should, and can be compared with it.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from corral_gateway.storage.models import Base

#: SQLite finds rows by an INTEGER primary key at once, and by any other through an index.
_Seq = BigInteger().with_variant(Integer(), "sqlite")

audit_log = Table(
    "audit_log",
    Base.metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("time", String(27), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("request_id", String(64)),
    Column("task_uid", String(64)),
    Column("caller", Text),
    Column("tool", Text),
    Column("reason", Text),
    #: Canonical JSON: what is hashed. The columns before it repeat some of its fields, to be searched by.
    Column("record", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_log_by_time", "time"),
    Index("audit_log_by_request", "request_id"),
    Index("audit_log_by_task", "task_uid"),
)

#: One row: where the log ends. Who writes locks it, so that there is one chain whoever writes.
audit_end = Table(
    "audit_end",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _Seq, nullable=False),
    Column("hash", String(64), nullable=False),
)

audit_heads = Table(
    "audit_heads",
    Base.metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("time", String(27), nullable=False),
    #: ``head``, or ``removed``: everything up to this record was removed on purpose.
    Column("kind", String(16), primary_key=True),
    Column("public_key", String(64), primary_key=True),
    Column("signature", String(128), nullable=False),
)

# The three of the documents. Each row says what the last record about its subject says; `seq` is that record's number.

requests = Table(
    "requests",
    Base.metadata,
    Column("request_id", String(64), primary_key=True),
    Column("created_at", String(27), nullable=False),
    Column("ended_at", String(27)),
    Column("caller", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("transport", String(16), nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("input", Text),
    Column("status", String(16), nullable=False),
    Column("code", String(32)),
    Column("reason", Text),
    Column("duration_ms", Integer),
    Column("count", Integer, nullable=False),
    Column("seq", _Seq, nullable=False),
    Index("requests_by_time", "created_at"),
    Index("requests_by_seq", "seq"),
)

decisions = Table(
    "decisions",
    Base.metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("created_at", String(27), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("task_uid", String(64), nullable=False),
    Column("caller", Text, nullable=False),
    Column("selected_tools", Text, nullable=False),
    #: What a language model gave as its reason, once one decides.
    Column("reasoning", Text),
    Column("allowed", Boolean, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text),
    Column("input", Text),
    Index("decisions_by_request", "request_id"),
)

executions = Table(
    "executions",
    Base.metadata,
    Column("task_uid", String(64), primary_key=True),
    Column("execution", String(63), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("created_at", String(27), nullable=False),
    Column("caller", Text, nullable=False),
    Column("tool_name", Text, nullable=False),
    Column("input", Text),
    Column("output", Text),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("error", Text),
    Column("duration_ms", Integer),
    Column("usage", Text),
    Column("seq", _Seq, nullable=False),
    Index("executions_by_seq", "seq"),
)
