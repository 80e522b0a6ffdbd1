"""What callers keep in the artifact store."""

import sqlalchemy as sa
from alembic import op

revision = "0021_stored_bytes"
down_revision = "0020_budgets"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "stored_of_callers",
        sa.Column("caller", sa.String(255), primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "stored_of_tasks",
        sa.Column("task_uid", sa.String(36), primary_key=True),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("stored_of_tasks_by_age", "stored_of_tasks", ["since"])


def downgrade() -> None:
    """Take the tables away."""
    op.drop_table("stored_of_tasks")
    op.drop_table("stored_of_callers")
