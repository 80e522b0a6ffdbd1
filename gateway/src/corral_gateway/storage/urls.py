"""From the URL of a database, as people and other programs write it, to the one that SQLAlchemy takes. Pure."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


def driver_url(url: str) -> str:
    """Return the URL with the driver that is used here.

    Raises:
        ValueError: it names no database that is known here. What it says holds no password.
    """
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "write postgresql://user:password@host:5432/name, or sqlite:////path/to/file"
        ) from None
    driver = _DRIVERS.get(read.drivername)
    if driver is None:
        raise ValueError(f"{read.drivername} is not supported: use postgresql or sqlite")
    if driver.startswith("sqlite") and read.database in {None, "", ":memory:"}:
        raise ValueError("a SQLite database needs a file: sqlite:////path/to/file")
    query = dict(read.query)
    if "sslmode" in query:  # as libpq calls it; the driver takes the same words under another name
        query["ssl"] = query.pop("sslmode")
    return read.set(drivername=driver, query=query).render_as_string(hide_password=False)
