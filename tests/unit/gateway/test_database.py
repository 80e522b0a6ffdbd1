"""What the rest of the gateway is told of a database that is not there."""

import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from corral_gateway.storage.database import Database


async def test_M5_the_database_is_for_its_owner_alone_wherever_it_lies(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'corral.db'}")
        await database.migrate()
        async with database.reading() as session:
            await session.execute(text("SELECT 1"))
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        await database.close()
    finally:
        os.umask(before)
    assert modes == {"corral.db": 0o600, "corral.db-shm": 0o600, "corral.db-wal": 0o600}


async def test_B13_a_database_that_nobody_serves_is_an_error_of_the_database() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        database = Database(f"postgresql+asyncpg://corral@127.0.0.1:{taken.getsockname()[1]}/corral")
        try:
            async with database.reading() as session:
                # Loops that go on in spite of errors of the database would end with one of the socket.
                with pytest.raises(OperationalError, match="ConnectionRefusedError"):
                    await session.execute(text("SELECT 1"))
        finally:
            await database.close()
