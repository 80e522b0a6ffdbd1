"""What callers use."""

import sqlalchemy as sa
from alembic import op

revision = "0020_budgets"
down_revision = "0012_owners"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "budget_days",
        sa.Column("caller", sa.String(255), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("executions", sa.BigInteger, nullable=False),
        sa.Column("cpu_milliseconds", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "budget_holds",
        sa.Column("task_uid", sa.String(36), primary_key=True),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("executions", sa.BigInteger, nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("budget_holds_of_caller", "budget_holds", ["caller"])


def downgrade() -> None:
    """Take the tables away."""
    op.drop_table("budget_holds")
    op.drop_table("budget_days")
