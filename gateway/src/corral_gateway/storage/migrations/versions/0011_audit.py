"""The audit: one chained log, signed heads, and the tables that show it."""

import sqlalchemy as sa
from alembic import op

revision = "0011_audit"
down_revision = "0010"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and the end of an empty log."""
    op.create_table(
        "audit_log",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("task_uid", sa.String(64)),
        sa.Column("caller", sa.Text),
        sa.Column("tool", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("audit_log_by_time", "audit_log", ["time"])
    op.create_index("audit_log_by_request", "audit_log", ["request_id"])
    op.create_index("audit_log_by_task", "audit_log", ["task_uid"])
    end = op.create_table(
        "audit_end",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(end, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table(
        "audit_heads",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("public_key", sa.String(64), primary_key=True),
        sa.Column("signature", sa.String(128), nullable=False),
    )
    _make_what_shows_it()


def _make_what_shows_it() -> None:
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("ended_at", sa.String(27)),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("credential", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("transport", sa.String(16), nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32)),
        sa.Column("reason", sa.Text),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("seq", _SEQ, nullable=False),
    )
    op.create_index("requests_by_time", "requests", ["created_at"])
    op.create_index("requests_by_seq", "requests", ["seq"])
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("task_uid", sa.String(64), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("selected_tools", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text),
        sa.Column("allowed", sa.Boolean, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("input", sa.Text),
    )
    op.create_index("decisions_by_request", "decisions", ["request_id"])
    op.create_table(
        "executions",
        sa.Column("task_uid", sa.String(64), primary_key=True),
        sa.Column("execution", sa.String(63), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("tool_name", sa.Text, nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("output", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("usage", sa.Text),
        sa.Column("seq", _SEQ, nullable=False),
    )
    op.create_index("executions_by_seq", "executions", ["seq"])


def downgrade() -> None:
    """Take the tables away, and the log with them."""
    for table in ("executions", "decisions", "requests", "audit_heads", "audit_end", "audit_log"):
        op.drop_table(table)
