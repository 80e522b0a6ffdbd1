"""Tasks that may be removed, and registered tools."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0002_keys"


def upgrade() -> None:
    """Make the columns and tables."""
    op.add_column("tasks", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.create_index("tasks_by_expiry", "tasks", ["expires_at"])
    op.create_table(
        "tools",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("change", sa.Integer, nullable=False),
        sa.Column("manifest", sa.JSON, nullable=False),
    )
    op.create_table(
        "tool_changes",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manifest", sa.JSON),
    )
    op.create_index("ix_tool_changes_name", "tool_changes", ["name"])
