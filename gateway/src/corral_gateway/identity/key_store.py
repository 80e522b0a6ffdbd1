"""Keeps API keys."""

import os
import uuid
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from corral.api import PermissionLevel
from corral_gateway.identity.api_key import ApiKey
from corral_gateway.identity.caller import Reach
from corral_gateway.identity.roles import Role, Scope
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import ApiKeyRow, KeysVersionRow

_ONLY = 1


class KeyStore:
    """API keys in the database. Whoever holds copies of them sees by ``version`` that something was changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        file = database.file
        self._mark_file = None if file is None else file.with_name(f"{file.name}-keys")
        self._mark_path = str(self._mark_file)

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        async with self._database.writing() as session:
            session.add(_row(key))
            await _count(session)
        self._tell()

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
            changed = done.first() is not None
            await _count(session)
        self._tell()
        return changed

    async def rotate(self, was: ApiKey, key: ApiKey) -> bool:
        """Keep a key's new secret. Returns whether the key was still as it was thought to be, and not revoked."""
        async with self._database.writing() as session:
            done = await session.execute(
                update(ApiKeyRow)
                .where(
                    ApiKeyRow.prefix == key.prefix,
                    ApiKeyRow.secret_sha256 == was.secret_sha256,
                    ApiKeyRow.revoked_at.is_(None),
                )
                .values(
                    secret_sha256=key.secret_sha256,
                    previous_sha256=key.previous_sha256,
                    previous_expires_at=key.previous_expires_at,
                )
                .returning(ApiKeyRow.prefix)
            )
            changed = done.first() is not None
            await _count(session)
        self._tell()
        return changed

    async def used(self, moments: Mapping[str, datetime]) -> None:
        """Note when keys were last used. No change that anybody has to see at once."""
        async with self._database.writing() as session:
            for prefix, moment in moments.items():
                await session.execute(
                    update(ApiKeyRow).where(ApiKeyRow.prefix == prefix).values(last_used_at=moment)
                )

    async def version(self) -> int:
        """Return a number that is another after each change."""
        async with self._database.reading() as session:
            return await session.scalar(select(KeysVersionRow.version)) or 0

    def mark(self) -> tuple[int, int] | None:
        """Return what is another after each change on this machine, without asking the database; None: nothing is.

        It costs microseconds, so that each request can look. Read it before what it stands for.
        """
        if self._mark_file is None:
            return None
        try:
            status = os.stat(self._mark_path)  # noqa: PTH116 - looked at by every request
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _tell(self) -> None:
        """Tell other processes on this machine that something was changed; those elsewhere ask the database."""
        file = self._mark_file
        if file is not None:
            # A new file each time: the clock of a file system is too coarse to tell two changes apart.
            new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
            new.touch(mode=0o600)
            new.replace(file)


async def _count(session: AsyncSession) -> None:
    done = await session.execute(
        update(KeysVersionRow).values(version=KeysVersionRow.version + 1).returning(KeysVersionRow.version)
    )
    if done.first() is None:
        session.add(KeysVersionRow(id=_ONLY, version=1))


def _row(key: ApiKey) -> ApiKeyRow:
    return ApiKeyRow(
        prefix=key.prefix,
        secret_sha256=key.secret_sha256,
        caller=key.caller,
        role=key.role.value,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        scopes=None if key.narrowed_to is None else sorted(key.narrowed_to),
        permissions=sorted(key.reach.permissions),
        tools=None if key.reach.tools is None else sorted(key.reach.tools),
        previous_sha256=key.previous_sha256,
        previous_expires_at=key.previous_expires_at,
        last_used_at=key.last_used_at,
    )


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        row.prefix,
        row.secret_sha256,
        row.caller,
        Role(row.role),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        None if row.scopes is None else frozenset(Scope(scope) for scope in row.scopes),
        Reach(
            frozenset(PermissionLevel(level) for level in row.permissions or ()),
            None if row.tools is None else frozenset(row.tools),
        ),
        row.previous_sha256,
        row.previous_expires_at,
        row.last_used_at,
    )
