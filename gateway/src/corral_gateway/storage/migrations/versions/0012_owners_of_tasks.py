"""Which gateway runs a task, where several share a database."""

import sqlalchemy as sa
from alembic import op

revision = "0012_owners"
down_revision = "0011_audit"


def upgrade() -> None:
    """Make the column."""
    op.add_column("tasks", sa.Column("owner", sa.String(36)))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("tasks", "owner")
