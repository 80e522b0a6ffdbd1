"""Looks at the audit of a gateway that runs, or ran."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from corral_gateway.audit.heads import HeadsFile, read_or_make_key
from corral_gateway.audit.verification import Evidence, Verdict, verify
from corral_gateway.storage.database import Database
from eventually import eventually_async


def rows(directory: Path, query: str, *values: Any) -> list[dict[str, Any]]:
    """Return what a query finds in the database of a directory, as any program with SQLite does."""
    with closing(sqlite3.connect(directory / "corral.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


async def recorded(directory: Path, query: str, *values: Any, count: int = 1) -> list[dict[str, Any]]:
    """Return what a query finds as soon as it finds so much."""
    return await eventually_async(lambda: rows(directory, query, *values), lambda found: len(found) >= count)


@contextmanager
def tampering(directory: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of a gateway that has ended, as somebody with its file may."""
    with closing(sqlite3.connect(directory / "corral.db")) as connection:
        yield connection
        connection.commit()


async def verdict_of(directory: Path, *, anchors: Sequence[Any] = (), **checks: bool) -> Verdict:
    """Verify the audit of a directory."""
    database = Database(f"sqlite+aiosqlite:///{directory / 'corral.db'}")
    key = read_or_make_key(directory / "audit.key")
    evidence = Evidence(
        frozenset({key.public}), list(HeadsFile(directory / "audit-heads.jsonl").heads()), anchors
    )
    try:
        return await database.snapshot(lambda connection: verify(connection, evidence, **checks))
    finally:
        await database.close()
