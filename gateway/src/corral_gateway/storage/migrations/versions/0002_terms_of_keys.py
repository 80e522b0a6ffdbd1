"""What a key may beyond and below its role, its rotation, its last use; a count of changes."""

import sqlalchemy as sa
from alembic import op

revision = "0002_keys"
down_revision = "0001"


def upgrade() -> None:
    """Make the columns and the table."""
    for column in (
        sa.Column("scopes", sa.JSON),
        sa.Column("permissions", sa.JSON),
        sa.Column("tools", sa.JSON),
        sa.Column("previous_sha256", sa.LargeBinary(32)),
        sa.Column("previous_expires_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("api_keys", column)
    op.create_table(
        "api_keys_version",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.execute("INSERT INTO api_keys_version (id, version) VALUES (1, 0)")


def downgrade() -> None:
    """Take them away."""
    op.drop_table("api_keys_version")
    with op.batch_alter_table("api_keys") as table:
        for name in (
            *("scopes", "permissions", "tools"),
            *("previous_sha256", "previous_expires_at", "last_used_at"),
        ):
            table.drop_column(name)
