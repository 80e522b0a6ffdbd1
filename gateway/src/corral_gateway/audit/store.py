"""The log in one gateway's database, and the file of heads beside it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, StatementError

from corral.api import time_text
from corral_gateway.audit.chain import Head
from corral_gateway.audit.heads import HeadsFile, SignedHead, SigningKey
from corral_gateway.audit.log import append
from corral_gateway.audit.masking import Keep
from corral_gateway.audit.recorder import UnwritableRecordError
from corral_gateway.audit.records import Happening, now
from corral_gateway.audit.tables import audit_heads
from corral_gateway.storage.database import Database

#: SQLSTATE (ISO 9075-2, 24.1): data exceptions, integrity constraint violations.
_DATA_CLASSES = ("22", "23")


@dataclass(frozen=True, slots=True)
class DatabaseStore:
    """Implements ``AuditStore``."""

    database: Database
    key: SigningKey
    file: HeadsFile
    keep: Keep

    async def append(self, happenings: Sequence[Happening]) -> tuple[Head, int]:
        """Add records; see ``AuditStore``."""
        try:
            return await self.database.transaction(
                lambda connection: append(connection, happenings, self.keep)
            )
        # Whatever it is: only the caller knows what to do, and only here it is known whose fault it is.
        except Exception as error:
            if is_of_the_record(error):
                raise UnwritableRecordError(str(error)) from error
            raise

    async def sign(self, head: Head) -> None:
        """Sign a head; see ``AuditStore``."""
        signed = self.key.sign(head, time_text(now()))
        await self.database.transaction(lambda connection: keep_head(connection, signed))
        await asyncio.to_thread(self.file.add, signed)


def is_of_the_record(error: Exception) -> bool:
    """Whether a database refused what it was given, and did not fail itself."""
    if isinstance(error, OperationalError | OSError):
        return False
    if isinstance(error, DBAPIError):
        # PostgreSQL's driver has few classes of errors; the standard's code says what kind of error it is.
        state = getattr(error.orig, "sqlstate", None)
        of_data = state is not None and state.startswith(_DATA_CLASSES)
        return of_data or isinstance(error, DataError | IntegrityError) or isinstance(error.orig, ValueError)
    # What a driver cannot even send, such as a number that no column holds.
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def keep_head(connection: Connection, head: SignedHead) -> None:
    """Put a head into its table, once."""
    place = (
        audit_heads.c.seq == head.seq,
        audit_heads.c.kind == head.kind,
        audit_heads.c.public_key == head.public_key,
    )
    if connection.execute(select(audit_heads.c.seq).where(*place)).first() is None:
        connection.execute(audit_heads.insert(), [asdict(head)])
