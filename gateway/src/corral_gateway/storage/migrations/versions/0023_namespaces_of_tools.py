"""Whose a tool is that a cluster keeps: the history is of one namespace."""

import sqlalchemy as sa
from alembic import op

revision = "0023_namespaces_of_tools"
down_revision = "0022_unfinished"


def upgrade() -> None:
    """What is there is everybody's."""
    op.add_column("tool_changes", sa.Column("namespace", sa.String(63), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget what clusters keep."""
    op.execute("DELETE FROM tool_changes WHERE namespace <> ''")
    op.drop_column("tool_changes", "namespace")
