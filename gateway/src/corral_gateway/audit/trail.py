"""The audit of one gateway, from its start to its end."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from corral import __version__
from corral.api import AgentTask
from corral_gateway.audit.auditing import Auditing
from corral_gateway.audit.heads import HeadsFile, read_or_make_key
from corral_gateway.audit.recorder import Recorder, RecorderMetrics
from corral_gateway.audit.records import Kind, OfTheAudit, now
from corral_gateway.audit.retention import prune
from corral_gateway.audit.store import DatabaseStore
from corral_gateway.audit.tables import executions
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import TaskRow

log = logging.getLogger(__name__)

_RETENTION_SECONDS = 3600.0
_CATCH_UP_PAGE = 200
_ENDS = ("Succeeded", "Failed", "Cancelled")


class AuditTrail:
    """Its parts, and their lives."""

    def __init__(self, settings: Settings, database: Database, metrics: RecorderMetrics) -> None:
        """Read the key, or make it.

        Raises:
            SigningKeyError: it cannot be.
        """
        self.store = store_of(settings, database)
        self._days = settings.audit_days
        self._recorder = Recorder(
            self.store, metrics, settings.audit_head_records, settings.audit_head_seconds
        )
        self.auditing = Auditing(self._recorder)
        self._removing: asyncio.Task[None] | None = None

    @property
    def failing(self) -> str | None:
        """Why nothing can be recorded now; None: it can."""
        return self._recorder.failing

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return self._recorder.depth

    async def start(self) -> None:
        """Begin to record; first what an earlier process had not come to."""
        self._recorder.start()
        self._recorder.note(self._said(Kind.AUDIT_STARTED))
        await self._catch_up()
        if self._days:
            self._removing = asyncio.get_running_loop().create_task(self._remove_for_ever())

    async def close(self) -> None:
        """Write what waits, and sign where the log ends."""
        if self._removing is not None:
            self._removing.cancel()
            await asyncio.wait([self._removing])
        self._recorder.note(self._said(Kind.AUDIT_STOPPED))
        await self._recorder.close()

    async def _catch_up(self) -> None:
        """Record executions of this machine's tasks whose process ended before it did."""
        after = ""
        while True:
            shown = select(executions.c.seq).where(executions.c.task_uid == TaskRow.uid).exists()
            query = select(TaskRow).where(TaskRow.phase.in_(_ENDS), TaskRow.uid > after, ~shown)
            if self._days:  # those of older ones were removed
                query = query.where(TaskRow.created_at > now() - timedelta(days=self._days))
            async with self.store.database.reading() as session:
                rows = list(await session.scalars(query.order_by(TaskRow.uid).limit(_CATCH_UP_PAGE)))
            for row in rows:
                after = row.uid
                self.auditing.ended(AgentTask.model_validate(row.manifest), row.caller, 0)
            if len(rows) < _CATCH_UP_PAGE:
                return

    async def _remove_for_ever(self) -> None:
        while True:
            try:
                await prune(self.store, self._days)
            except (SQLAlchemyError, OSError) as error:
                log.warning("old audit records could not be removed: %s; again in an hour", error)
            await asyncio.sleep(_RETENTION_SECONDS)

    def _said(self, kind: Kind) -> OfTheAudit:
        return OfTheAudit(kind, {"version": __version__, "publicKey": self.store.key.public})


def store_of(settings: Settings, database: Database) -> DatabaseStore:
    """Return the log that settings name.

    Raises:
        SigningKeyError: its key cannot be read or made.
    """
    key = read_or_make_key(key_path_of(settings))
    file = HeadsFile(settings.data_directory / "audit-heads.jsonl")
    return DatabaseStore(database, key, file, settings.audit_arguments)


def key_path_of(settings: Settings) -> Path:
    """Return where the key lies that signs."""
    return settings.audit_key or settings.data_directory / "audit.key"
