"""Which tasks a gateway was asked to cancel that another one runs."""

import sqlalchemy as sa
from alembic import op

revision = "0024_cancelled_elsewhere"
down_revision = "0023_namespaces_of_tools"


def upgrade() -> None:
    """Make the column, and the index of what is still to be cancelled."""
    op.add_column(
        "tasks", sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false())
    )
    left = sa.text("cancel_requested AND reason IS NULL")
    op.create_index("tasks_to_cancel", "tasks", ["owner"], sqlite_where=left, postgresql_where=left)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("tasks_to_cancel", "tasks")
    op.drop_column("tasks", "cancel_requested")
