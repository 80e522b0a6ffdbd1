"""Keys and tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.String(12), primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "tasks",
        sa.Column("uid", sa.String(36), primary_key=True),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("tool", sa.String(253)),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("manifest", sa.JSON, nullable=False),
    )
    op.create_index("tasks_by_key", "tasks", ["caller", "idempotency_key"], unique=True)
    op.create_index("tasks_of_caller", "tasks", ["caller", "created_at", "uid"])
    op.create_table(
        "task_events",
        sa.Column(
            "task_uid", sa.String(36), sa.ForeignKey("tasks.uid", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Take the tables away."""
    op.drop_table("task_events")
    op.drop_table("tasks")
    op.drop_table("api_keys")
