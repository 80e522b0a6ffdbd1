"""Tasks that have not ended are found without a look at those that have."""

import sqlalchemy as sa
from alembic import op

revision = "0022_unfinished"
down_revision = "0021_stored_bytes"


def upgrade() -> None:
    """Make the index."""
    unfinished = sa.text("phase IN ('Pending', 'Running')")
    op.create_index(
        "tasks_unfinished",
        "tasks",
        ["created_at", "tool"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_index("tasks_unfinished", "tasks")
