"""The database: one engine, brought to the newest tables at start."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

_T = TypeVar("_T")

_MIGRATIONS = Path(__file__).parent / "migrations"
#: A writer waits so long for another process; SQLite has one writer at a time.
_BUSY_MILLISECONDS = 10_000
#: PostgreSQL that does not answer within so long is as good as gone.
_CONNECT_SECONDS, _STATEMENT_SECONDS = 10, 60
#: Any number that nobody else locks in this database.
_MIGRATION_LOCK = 0x636F7272616C


class Database:
    """Sessions to read and to write; and whole transactions as plain functions."""

    def __init__(self, url: str) -> None:
        self._is_sqlite = url.startswith("sqlite")
        self._engine = _sqlite(url) if self._is_sqlite else _postgresql(url)
        self._writing_engine = self._engine.execution_options(corral_writes=True)
        # In SQLite, one hop to a thread for a whole transaction costs a tenth of a hop for each of its statements.
        self._threaded = _sqlite_in_threads(url) if self._is_sqlite else None
        self._thread = ThreadPoolExecutor(1, "database") if self._is_sqlite else None
        self._writer = None if self._threaded is None else _Writer(self._threaded)
        # Writers of this process queue here, and not in SQLite, where they would sleep and try again.
        self._lock = asyncio.Lock() if self._is_sqlite else nullcontext()
        self._reads = async_sessionmaker(self._engine, expire_on_commit=False)
        self._writes = async_sessionmaker(self._writing_engine, expire_on_commit=False)

    @property
    def file(self) -> Path | None:
        """Where it lies; None: on a server, or in memory."""
        url = self._engine.url
        if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
            return None
        return Path(str(url.database))

    async def migrate(self) -> None:
        """Bring the tables to what this version knows. Safe to call again, and by many processes at once."""
        if self.file is not None:
            # For its owner alone, whatever the directory is; what SQLite puts beside it has the same mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_WRONLY, 0o600))
        async with self._writing_engine.begin() as connection:
            if not self._is_sqlite:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
                )
            await connection.run_sync(_upgrade)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Open a session that changes nothing."""
        async with self._reads() as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Open a session whose changes stand when it ends without an exception, all or none."""
        async with self._lock, self._writes.begin() as session:
            yield session

    async def transaction(self, work: Callable[[Connection], _T]) -> _T:
        """Run a function that writes: its changes stand when it returns, all or none.

        A transaction that has begun is ended, whether or not somebody waits for it still.
        """
        async with self._lock:
            if self._writer is None:
                async with self._writing_engine.begin() as connection:
                    return await connection.run_sync(work)
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._writer.run, work)
            return await _to_its_end(running)

    async def snapshot(self, work: Callable[[Connection], _T]) -> _T:
        """Run a function that reads, and sees one moment of the database."""
        if self._threaded is None:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            async with self._engine.connect() as connection:
                await connection.execution_options(**options)
                return await connection.run_sync(work)
        return await asyncio.to_thread(_look, self._threaded, work)

    async def close(self) -> None:
        """Give up every connection."""
        await self._engine.dispose()
        if self._threaded is not None and self._thread is not None and self._writer is not None:
            self._thread.submit(self._writer.close)
            self._thread.shutdown()
            self._threaded.dispose()


def _sqlite(url: str) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True)
    _begin_by_hand(engine.sync_engine)
    return engine


def _sqlite_in_threads(url: str) -> Engine:
    engine = create_engine(url.replace("sqlite+aiosqlite", "sqlite"), hide_parameters=True)
    _begin_by_hand(engine)
    return engine


def _postgresql(url: str) -> AsyncEngine:
    timeouts = {"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS}
    # A server that was started anew is noticed before a connection is used, not by who uses it.
    engine = create_async_engine(
        url, connect_args=timeouts, hide_parameters=True, pool_pre_ping=True, pool_recycle=1800
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def connects(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        # SQLAlchemy lets errors of the socket and of the login through as they are: who goes on in spite of errors of
        # the database would end with these.
        except (OSError, dialect.loaded_dbapi.asyncpg.PostgresError) as error:
            raise dialect.loaded_dbapi.OperationalError(f"{type(error).__name__}: {error}", error) from error

    return engine


def _begin_by_hand(engine: Engine) -> None:
    """Let writers lock SQLite as they begin: one that reads first and writes then might be refused halfway."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # The driver's own idea of when a transaction begins leaves out reading and changes of tables.
        connection.isolation_level = None
        cursor = connection.cursor()
        # Readers do not wait for the writer; what was committed survives a crash of the process and of the machine.
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        how = "BEGIN IMMEDIATE" if connection.get_execution_options().get("corral_writes") else "BEGIN"
        if connection.dialect.driver == "pysqlite":  # past SQLAlchemy, which takes ten times as long for it
            connection.connection.cursor().execute(how)
        else:
            connection.exec_driver_sql(how)


class _Writer:
    """The one connection that writes to SQLite, kept open; used by one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run a function in a transaction of its own."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(corral_writes=True)
        try:
            with self._connection.begin():
                return work(self._connection)
        except BaseException:
            # Whatever it is: the next one begins with a connection of which everything is known.
            self.close()
            raise

    def close(self) -> None:
        """Give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _look(engine: Engine, work: Callable[[Connection], _T]) -> _T:
    with engine.connect() as connection:
        return work(connection)


async def _to_its_end(running: "asyncio.Future[_T]") -> _T:
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # The thread goes on with it; who comes next must not begin beside it.
        await asyncio.wait([running])
        raise


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
