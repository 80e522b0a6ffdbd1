"""SQL over CSV, JSON and Parquet files of the workspace, run by DuckDB in memory."""

import os

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolFailure
from corral_tools import bounds, paths, sql_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from corral_runner.interface import JSON, ToolContext

#: Which of DuckDB's readers reads which file.
_READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
    ".parquet": "read_parquet",
}
#: Of the memory this process may have, so much is DuckDB's; the library itself and the result need the rest.
_MEMORY_SHARE = 0.3
_LEAST_MEMORY_BYTES = 64 << 20
_MEMORY_WITHOUT_LIMIT_BYTES = 256 << 20
_MESSAGE_CHARACTERS = 1000


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """``files`` names the tables and the file of each; the query is one statement that reads them."""
    import duckdb

    tables = _tables(arguments["files"], context)
    query: str = arguments["query"]
    connection = _open()
    try:
        _offer(connection, tables)
        _refuse_writing(connection, query)
        relation = connection.sql(query)
        return _rows(relation, arguments.get("max_rows", 100), bounds.budget_bytes(context))
    except duckdb.OutOfMemoryException as error:
        raise ToolFailure(
            f"the query needs more memory than the task has: {_message(error)}"
        ) from MemoryError(str(error))
    except duckdb.PermissionException as error:
        raise PermissionRefused(
            "files", f"{_message(error)}; a query reads the files named in 'files' and nothing else"
        ) from error
    except duckdb.Error as error:
        known = ", ".join(table for table, _, _ in tables)
        raise ToolFailure(f"{_message(error)}\n(tables: {known})", kind=type(error).__name__) from error
    finally:
        connection.close()


def _tables(named: "Mapping[str, str]", context: "ToolContext") -> list[tuple[str, str, str]]:
    """Name of the table, absolute path, DuckDB's reader: for every file."""
    tables: list[tuple[str, str, str]] = []
    for table, path in named.items():
        field = f"files.{table}"
        absolute = paths.resolve(path, context, field)
        suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
        reader = _READERS.get(suffix)
        if reader is None:
            raise InvalidArgument(
                field, f"{path!r} ends with none of {', '.join(_READERS)} (or these with .gz)"
            )
        if not os.path.isfile(absolute):
            raise ToolFailure(f"{path!r} is not a file; list_dir shows what there is", path=path)
        if any(table.lower() == other.lower() for other, _, _ in tables):
            raise InvalidArgument(field, "differs from another table's name only in case, which SQL ignores")
        tables.append((table, absolute, reader))
    return tables


def _open() -> "DuckDBPyConnection":
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            # One: without any, DuckDB cannot spill to disk; by default it starts eight.
            "async_threads": 1,
            "memory_limit": f"{_memory_bytes() >> 20}MiB",
            "temp_directory": "/tmp/.duckdb",  # noqa: S108 - the sandbox's own /tmp
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,
        },
    )


def _offer(connection: "DuckDBPyConnection", tables: list[tuple[str, str, str]]) -> None:
    """Let the database read these files and nothing else, and lock its settings."""
    allowed = ", ".join(_literal(absolute) for _, absolute, _ in tables)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    for table, absolute, reader in tables:
        quoted = table.replace('"', '""')
        connection.execute(f'CREATE VIEW "{quoted}" AS FROM {reader}({_literal(absolute)})')
    connection.execute("SET lock_configuration = true")


def _memory_bytes() -> int:
    import resource

    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if not finite:
        return _MEMORY_WITHOUT_LIMIT_BYTES
    return max(_LEAST_MEMORY_BYTES, int(min(finite) * _MEMORY_SHARE))


def _refuse_writing(connection: "DuckDBPyConnection", query: str) -> None:
    """Leave only statements that read.

    The task's permissions keep the files from being written; this says so before the query runs. A COPY can
    stand inside a SELECT, as a common table expression, so the word itself is looked for.
    """
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise InvalidArgument("query", f"has {len(statements)} statements; give one")
    # A PIVOT is a statement of several.
    if statements[0].type not in {duckdb.StatementType.SELECT, duckdb.StatementType.MULTI}:
        kind = statements[0].type.name
        raise InvalidArgument("query", f"is a statement of kind {kind}; only queries that read are taken")
    for offset, token in duckdb.tokenize(query):
        if token == duckdb.token_type.keyword and query.encode()[offset : offset + 4].lower() == b"copy":
            raise InvalidArgument("query", 'has the word COPY in it; a column of that name is written "copy"')


def _rows(relation: "DuckDBPyRelation", max_rows: int, limit_bytes: int) -> "JSON":
    import json

    names = _unique(relation.columns)
    types = [str(kind) for kind in relation.types]
    found = sql_values.without_time_zones(relation, types).limit(max_rows + 1).fetchall()
    rows: list[JSON] = []
    for values in found[:max_rows]:
        row: JSON = dict(zip(names, map(sql_values.as_json, values), strict=True))
        limit_bytes -= len(json.dumps(row)) + 2
        if limit_bytes < 0:
            break
        rows.append(row)
    return {
        "columns": [{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)],
        "rows": rows,
        "row_count": len(rows),
        "truncated": len(rows) < len(found),
    }


def _unique(names: list[str]) -> list[str]:
    """Column names as keys: of two equal ones the second gets a number."""
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return unique


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _message(error: Exception) -> str:
    """DuckDB's message, with its suggestions and the place in the query, which end within the first lines."""
    return str(error).strip()[:_MESSAGE_CHARACTERS]
