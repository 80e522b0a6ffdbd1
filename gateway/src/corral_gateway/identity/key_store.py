"""Keeps API keys."""

from datetime import datetime

from sqlalchemy import select, update

from corral_gateway.identity.api_key import ApiKey
from corral_gateway.identity.roles import Role
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import ApiKeyRow


class KeyStore:
    """API keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        async with self._database.writing() as session:
            session.add(
                ApiKeyRow(
                    prefix=key.prefix,
                    secret_sha256=key.secret_sha256,
                    caller=key.caller,
                    role=key.role.value,
                    created_at=key.created_at,
                    expires_at=key.expires_at,
                    revoked_at=key.revoked_at,
                )
            )

    async def find(self, prefix: str) -> ApiKey | None:
        """Return the key of a prefix."""
        async with self._database.reading() as session:
            row = await session.get(ApiKeyRow, prefix)
            return None if row is None else _key(row)

    async def all(self) -> list[ApiKey]:
        """Return every key, oldest first."""
        async with self._database.reading() as session:
            rows = await session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.prefix))
            return [_key(row) for row in rows]

    async def revoke(self, prefix: str, now: datetime) -> bool:
        """Make a key open nothing any more. Returns whether there was one that did."""
        async with self._database.writing() as session:
            done = await session.execute(
                update(ApiKeyRow)
                .where(ApiKeyRow.prefix == prefix, ApiKeyRow.revoked_at.is_(None))
                .values(revoked_at=now)
                .returning(ApiKeyRow.prefix)
            )
            return done.first() is not None


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        row.prefix,
        row.secret_sha256,
        row.caller,
        Role(row.role),
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )
