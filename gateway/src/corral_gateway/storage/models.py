"""The tables. Changed by a migration only: ``storage/migrations``."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite keeps no time zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give a time to the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Take a time from the database."""
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


#: Of a task: word for word as its index has it, so that the index is used.
UNFINISHED = text("phase IN ('Pending', 'Running')")


class Base(DeclarativeBase):
    """All tables."""


class ApiKeyRow(Base):
    """An API key; see ``identity.api_key``."""

    __tablename__ = "api_keys"

    prefix: Mapped[str] = mapped_column(String(12), primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    caller: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    scopes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    permissions: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    tools: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    previous_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    previous_expires_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)


class KeysVersionRow(Base):
    """One row: counts changes of API keys, for those who hold copies."""

    __tablename__ = "api_keys_version"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column()


_TO_CANCEL = text("cancel_requested AND reason IS NULL")


class TaskRow(Base):
    """A task that runs on this machine. In a cluster the API server keeps them."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("tasks_of_caller", "caller", "created_at", "uid"),
        # Of two requests with one key that come together, one makes the task.
        Index("tasks_by_key", "caller", "idempotency_key", unique=True),
        Index("tasks_by_expiry", "expires_at"),
        Index("tasks_unfinished", "created_at", "tool", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
        Index("tasks_to_cancel", "owner", sqlite_where=_TO_CANCEL, postgresql_where=_TO_CANCEL),
    )

    uid: Mapped[str] = mapped_column(String(36), primary_key=True)
    caller: Mapped[str] = mapped_column(String(255))
    tool: Mapped[str | None] = mapped_column(String(253))
    phase: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    #: SHA-256 of what was asked for, to tell the same request from another with the same key.
    request_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    #: When it may be removed; None: not yet ended, or never.
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    #: The gateway that runs it, see ``storage.instance``; None: it was taken in before there could be several.
    owner: Mapped[str | None] = mapped_column(String(36))
    #: A gateway was asked to cancel it that does not run it: its owner does.
    cancel_requested: Mapped[bool] = mapped_column(server_default=false(), default=False)
    #: The whole AgentTask.
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)


class ToolRow(Base):
    """A registered tool as it is now; see ``tools.registry``."""

    __tablename__ = "tools"

    #: With hyphens, as ``corral.catalogue.normalise`` has it.
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    #: Of its last change, in ``tool_changes``.
    change: Mapped[int]
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)


class ToolChangeRow(Base):
    """What was done to a registered tool, by whom. Never changed; the oldest go, see ``tools.pruning``."""

    __tablename__ = "tool_changes"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    #: Of the cluster, whose tool it is; empty: the gateway keeps it itself, for all callers.
    namespace: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(63), index=True)
    caller: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime] = mapped_column(Moment)
    #: The tool from then on; None: it was deleted.
    manifest: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class EventRow(Base):
    """An event of a task; see ``tasks.events``."""

    __tablename__ = "task_events"

    task_uid: Mapped[str] = mapped_column(ForeignKey("tasks.uid", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class BudgetDayRow(Base):
    """What a caller used on one day; see ``budgets.ledger``."""

    __tablename__ = "budget_days"

    caller: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: In UTC.
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    executions: Mapped[int] = mapped_column(BigInteger)
    cpu_milliseconds: Mapped[int] = mapped_column(BigInteger)


class BudgetHoldRow(Base):
    """What is held of a caller's budget for a task that has not ended; see ``budgets.ledger``."""

    __tablename__ = "budget_holds"
    __table_args__ = (Index("budget_holds_of_caller", "caller"),)

    task_uid: Mapped[str] = mapped_column(String(36), primary_key=True)
    caller: Mapped[str] = mapped_column(String(255))
    #: Whose executions these are.
    day: Mapped[date] = mapped_column(Date)
    executions: Mapped[int] = mapped_column(BigInteger)
    held_until: Mapped[datetime] = mapped_column(Moment)


class StoredOfCallerRow(Base):
    """How much a caller keeps in the artifact store: the sum of their tasks' rows; see ``budgets.stored``."""

    __tablename__ = "stored_of_callers"

    caller: Mapped[str] = mapped_column(String(255), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)


class StoredOfTaskRow(Base):
    """How much is kept of a task there. A task of which nothing is kept has no row."""

    __tablename__ = "stored_of_tasks"
    __table_args__ = (Index("stored_of_tasks_by_age", "since"),)

    task_uid: Mapped[str] = mapped_column(String(36), primary_key=True)
    caller: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime] = mapped_column(Moment)
