"""The log in one gateway's database, and the file of heads beside it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select

from corral.api import time_text
from corral_gateway.audit.chain import Head
from corral_gateway.audit.heads import HeadsFile, SignedHead, SigningKey
from corral_gateway.audit.log import append
from corral_gateway.audit.masking import Keep
from corral_gateway.audit.records import Happening, now
from corral_gateway.audit.tables import audit_heads
from corral_gateway.storage.database import Database


@dataclass(frozen=True, slots=True)
class DatabaseStore:
    """Implements ``AuditStore``."""

    database: Database
    key: SigningKey
    file: HeadsFile
    keep: Keep

    async def append(self, happenings: Sequence[Happening]) -> tuple[Head, int]:
        """Add records; see ``AuditStore``."""
        return await self.database.transaction(lambda connection: append(connection, happenings, self.keep))

    async def sign(self, head: Head) -> None:
        """Sign a head; see ``AuditStore``."""
        signed = self.key.sign(head, time_text(now()))
        await self.database.transaction(lambda connection: keep_head(connection, signed))
        await asyncio.to_thread(self.file.add, signed)


def keep_head(connection: Connection, head: SignedHead) -> None:
    """Put a head into its table, once."""
    place = (
        audit_heads.c.seq == head.seq,
        audit_heads.c.kind == head.kind,
        audit_heads.c.public_key == head.public_key,
    )
    if connection.execute(select(audit_heads.c.seq).where(*place)).first() is None:
        connection.execute(audit_heads.insert(), [asdict(head)])
