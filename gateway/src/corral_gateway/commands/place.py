"""Where commands work: the settings, and the database that they name."""

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from corral_gateway.settings import Settings
    from corral_gateway.storage.database import Database


def require_data(settings: "Settings") -> None:
    """Refuse to look into a database that is not there: an empty new one would answer as if all were well."""
    if settings.database is None and not settings.data_directory.is_dir():
        raise bad_input(
            f"CORRAL_DATA_DIR: no gateway keeps its data in {settings.data_directory.resolve()}",
            "run this where `corral serve` runs, or set CORRAL_DATA_DIR",
        )


@asynccontextmanager
async def open_database(settings: "Settings", *, new: bool = True) -> "AsyncIterator[Database]":
    """Open the database, with the newest tables; with `new=False` only where a gateway keeps its data."""
    from corral_gateway.storage.database import Database

    if not new:
        require_data(settings)
    _make(settings.data_directory)
    database = Database(settings.database_url)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


def _make(directory: "Path") -> None:
    remedy = "name a directory that this user may write, or mount a volume there"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise bad_input(f"CORRAL_DATA_DIR: {directory} cannot be made: {error.strerror}", remedy) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise bad_input(f"CORRAL_DATA_DIR: {directory} cannot be written", remedy)


def read_settings() -> "Settings":
    """Read the environment and `.env`; what is wrong there is bad input."""
    from pydantic import ValidationError

    from corral_gateway.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, one['loc'])).upper()}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise bad_input(found, "correct the environment variable, or its line in .env") from None


def bad_input(problems: str | list[str], remedy: str | None = None) -> Exception:
    """Return what ends a command with status 2 and says what is wrong."""
    from corral.cli.exits import BadInputError

    return BadInputError(problems, remedy)
