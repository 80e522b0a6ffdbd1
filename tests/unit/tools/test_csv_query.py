"""csv_query: SQL over files of the workspace, and nothing but them."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, csv_query


def query(context: ToolContext, sql: str, files: dict[str, str] | None = None, **more: Any) -> Any:
    return csv_query.run({"query": sql, "files": files or {"t": "t.csv"}, **more}, context)


@pytest.fixture(autouse=True)
def table(workspace: Path) -> Path:
    (workspace / "t.csv").write_text("city,amount,day\nLisbon,12,2024-01-01\nOslo,7,2024-02-01\nLisbon,30,\n")
    return workspace / "t.csv"


def test_a_csv_file_is_a_table(context: ToolContext) -> None:
    assert query(context, "SELECT * FROM t WHERE amount > 10 ORDER BY amount") == {
        "columns": [
            {"name": "city", "type": "VARCHAR"},
            {"name": "amount", "type": "BIGINT"},
            {"name": "day", "type": "DATE"},
        ],
        "rows": [
            {"city": "Lisbon", "amount": 12, "day": "2024-01-01"},
            {"city": "Lisbon", "amount": 30, "day": None},
        ],
        "row_count": 2,
        "truncated": False,
    }


def test_every_kind_of_file_can_be_joined(workspace: Path, context: ToolContext) -> None:
    import duckdb

    (workspace / "a.tsv").write_text("id\tv\n1\ttsv\n")
    (workspace / "b.json").write_text('[{"id": 1, "v": "json"}]')
    (workspace / "c.jsonl").write_text('{"id": 1, "v": "jsonl"}\n')
    with gzip.open(workspace / "d.csv.gz", "wt") as file:
        file.write("id,v\n1,gz\n")
    with duckdb.connect() as connection:
        connection.execute("COPY (SELECT 1 AS id, 'parquet' AS v) TO 'E.PARQUET' (FORMAT PARQUET)")
    files = {"a": "a.tsv", "b": "b.json", "c": "c.jsonl", "d": "d.csv.gz", "e": "E.PARQUET"}
    joins = " ".join(f"JOIN {name} USING (id)" for name in "bcde")
    sql = f"SELECT a.v, b.v, c.v, d.v, e.v FROM a {joins}"
    result = query(context, sql, files)
    assert [*result["rows"][0].values()] == ["tsv", "json", "jsonl", "gz", "parquet"]
    assert [column["name"] for column in result["columns"]] == ["v", "v_2", "v_3", "v_4", "v_5"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1.50::DECIMAL(9, 2)", 1.5),
        ("3.00::DECIMAL(9, 2)", 3),
        ("0.1234567890123456789012345::DECIMAL(38, 25)", "0.1234567890123456789012345"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("99999999999999999999::HUGEINT", "99999999999999999999"),
        ("1e300 * 10", 1e301),
        ("'NaN'::DOUBLE", "nan"),
        ("'-Infinity'::FLOAT", "-inf"),
        ("TIMESTAMP '2024-02-29 10:00:00'", "2024-02-29T10:00:00"),
        ("TIMESTAMPTZ '2024-02-29 10:00:00+02:00'", "2024-02-29 08:00:00+00"),
        ("[TIMESTAMPTZ '2024-02-29 10:00:00Z']", ["2024-02-29 10:00:00+00"]),
        ("DATE '2024-02-29'", "2024-02-29"),
        ("TIME '10:30:00'", "10:30:00"),
        ("INTERVAL 90 MINUTE", "1:30:00"),
        ("'\\xAA\\xBB'::BLOB", "aabb"),
        ("UUID '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("TRUE", True),
        ("NULL", None),
        ("{'a': [1, NULL], 'b': 'x'}", {"a": [1, None], "b": "x"}),
        ("MAP {1: 'one'}", {"1": "one"}),
        ("'ü😀'", "ü😀"),
    ],
)
def test_values_are_json(expression: str, value: Any, context: ToolContext) -> None:
    result = query(context, f"SELECT {expression} AS v")
    assert result["rows"] == [{"v": value}]
    json.dumps(result, allow_nan=False)


def test_rows_end_at_the_maximum_and_say_so(context: ToolContext) -> None:
    result = query(context, "SELECT * FROM range(10) ORDER BY 1", max_rows=3)
    assert ([row["range"] for row in result["rows"]], result["row_count"], result["truncated"]) == (
        [0, 1, 2],
        3,
        True,
    )
    assert query(context, "SELECT * FROM range(10)", max_rows=10)["truncated"] is False
    assert query(context, "SELECT * FROM range(0)") == {
        "columns": [{"name": "range", "type": "BIGINT"}],
        "rows": [],
        "row_count": 0,
        "truncated": False,
    }


def test_rows_end_where_a_result_can_carry_no_more(context: ToolContext) -> None:
    result = query(context, "SELECT repeat('ü', 5000) AS v FROM range(1000)", max_rows=1000)
    assert result["truncated"] is True
    assert len(json.dumps(result["rows"])) <= bounds.RESULT_BYTES


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_csv('other.csv')",
        "SELECT * FROM 'other.csv'",
        "SELECT * FROM read_csv('*.csv')",
        "SELECT * FROM read_csv('t.csv/../other.csv')",
        "SELECT * FROM read_csv('https://example.com/a.csv')",
        "SELECT * FROM parquet_scan('/etc/passwd')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
    ],
)
def test_A7_no_other_file_can_be_read(sql: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "other.csv").write_text("secret\n1\n")
    outside = workspace.parent / "secret.txt"
    with pytest.raises((PermissionRefused, ToolFailure)) as caught:
        query(context, sql.format(outside=outside))
    if isinstance(caught.value, PermissionRefused):
        assert caught.value.rule == "files"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("COPY t TO 't.csv'", "COPY"),
        ("COPY t TO 't.csv' (use_tmp_file FALSE)", "COPY"),
        ("WITH w AS MATERIALIZED (COPY t TO 't.csv' (use_tmp_file FALSE)) FROM w", "COPY"),
        ("EXPLAIN ANALYZE COPY t TO 't.csv' (use_tmp_file FALSE)", "EXPLAIN"),
        ("PIVOT (WITH w AS (COPY t TO 't.csv') FROM w) ON x", "COPY"),
        ("EXPORT DATABASE 'x'", "EXPORT|COPY"),
        ("ATTACH 'x.db'", "ATTACH"),
        ("INSTALL httpfs", "LOAD"),
        ("LOAD httpfs", "LOAD"),
        ("SET enable_external_access = true", "SET"),
        ("RESET lock_configuration", "SET"),
        ("PRAGMA database_list", "PRAGMA"),
        ("CALL duckdb_settings()", "CALL"),
        ("CREATE TABLE x AS FROM t", "CREATE"),
        ("DROP VIEW t", "DROP"),
        ("SELECT 1; COPY t TO 't.csv'", "2 statements"),
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
    ],
)
def test_A7_only_one_statement_that_reads_is_taken(
    sql: str, why: str, table: Path, workspace: Path, context: ToolContext
) -> None:
    before = table.read_bytes()
    with pytest.raises(InvalidArgument, match=why) as caught:
        query(context, sql)
    assert caught.value.field == "query"
    assert table.read_bytes() == before
    assert [path.name for path in workspace.iterdir()] == ["t.csv"]


def test_the_word_copy_is_free_in_texts_and_quoted_names(context: ToolContext) -> None:
    assert query(context, "SELECT 'copy' AS \"copy\" /* copy */ -- copy")["rows"] == [{"copy": "copy"}]


def test_other_ways_of_reading_work(context: ToolContext) -> None:
    assert query(context, "FROM t SELECT count(*) AS n")["rows"] == [{"n": 3}]
    assert query(context, "DESCRIBE t")["row_count"] == 3
    assert query(context, "SUMMARIZE t")["row_count"] == 3
    assert query(context, "PIVOT t ON city USING sum(amount) GROUP BY day")["columns"][1]["name"] == "Lisbon"
    assert query(context, "VALUES (1)")["rows"] == [{"col0": 1}]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM t", "nope"),
        ("SELECT * FROM u", "u does not exist"),
        ("SELECT city + 1 FROM t", "No function matches"),
        ("SELECT (SELECT 1 UNION SELECT 2)", "More than one row"),
    ],
)
def test_a_mistake_is_a_failure_that_names_the_tables(sql: str, why: str, context: ToolContext) -> None:
    with pytest.raises(ToolFailure, match=why) as caught:
        query(context, sql)
    assert "(tables: t)" in caught.value.message
    assert len(caught.value.message) < 1100


@pytest.mark.parametrize(
    ("files", "error", "why"),
    [
        ({"t": "t.txt"}, InvalidArgument, r"files\.t: 't\.txt' ends with none of \.csv"),
        ({"t": "nowhere.csv"}, ToolFailure, "not a file"),
        ({"t": "dir.csv"}, ToolFailure, "not a file"),
        ({"t": "../secret.csv"}, PermissionRefused, "leaves"),
        ({"t": "link.csv"}, PermissionRefused, "symbolic link"),
        ({"t": "t.csv", "T": "t.csv"}, InvalidArgument, "only in case"),
        ({"t": "bad.parquet"}, ToolFailure, "arquet"),
        ({"t": "bad.json"}, ToolFailure, "JSON"),
    ],
)
def test_a_file_that_cannot_be_a_table_is_named(
    files: dict[str, str], error: type[Exception], why: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "t.txt").write_text("a\n1\n")
    (workspace / "dir.csv").mkdir()
    (workspace / "link.csv").symlink_to("../secret.txt")
    (workspace / "bad.parquet").write_text("no parquet")
    (workspace / "bad.json").write_text('{"a": ')
    with pytest.raises(error, match=why):
        query(context, "FROM t", files)


def test_odd_names_of_files_are_no_sql(workspace: Path, context: ToolContext) -> None:
    name = "it's; DROP TABLE t --.csv"
    (workspace / name).write_text("a\n1\n")
    assert query(context, "FROM x", {"x": name})["rows"] == [{"a": 1}]
    (workspace / "[x]*.csv").write_text("a\n2\n")
    with pytest.raises((ToolFailure, PermissionRefused)):
        query(context, "FROM x", {"x": "nothing*.csv"})


def test_variables_of_the_process_are_not_tables(context: ToolContext) -> None:
    tables = [1, 2]
    with pytest.raises(ToolFailure, match="does not exist"):
        query(context, "SELECT * FROM tables")
    assert tables


PROGRAM = """
import resource, sys
memory = int(sys.argv[1]) << 20
data = memory + memory // 4 + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (data, data))
from corral_runner.interface import ToolContext, ToolFailure
from corral_tools import csv_query
try:
    print(csv_query.run({"query": sys.argv[2], "files": {"t": "big.csv"}}, ToolContext(sys.argv[3]))["rows"])
except ToolFailure as failure:
    print(type(failure.__cause__).__name__, failure.message[:60])
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
threads = [line for line in open("/proc/self/status") if line.startswith("Threads")][0].split()[1]
print(int(peak) >> 10, threads)
"""


@pytest.mark.parametrize("memory", [256, 512])
def test_it_works_and_spills_under_the_runners_memory_limit(memory: int, workspace: Path) -> None:
    with (workspace / "big.csv").open("w") as file:
        file.write("a,b,c\n")
        file.writelines(f"{number},name{number % 1000},{number * 0.5}\n" for number in range(300_000))
    for sql, expected in (
        ("SELECT b, sum(c) AS s FROM t GROUP BY b ORDER BY b LIMIT 1", "[{'b': 'name0', 's': 22425000.0}]"),
        ("SELECT sum(a) AS s FROM (FROM t ORDER BY c DESC, b LIMIT 200000)", "[{'s': 39999900000}]"),
        ("SELECT count(*) AS n FROM t x JOIN t y USING (a)", "[{'n': 300000}]"),
    ):
        command = [sys.executable, "-c", PROGRAM, str(memory), sql, str(workspace)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace)
        rows, usage = ended.stdout.splitlines()
        assert rows == expected
        peak_mib, threads = map(int, usage.split())
        assert peak_mib < memory
        assert threads <= 2


def test_running_out_of_memory_has_the_cause_the_runner_looks_for(workspace: Path) -> None:
    (workspace / "big.csv").write_text("a\n1\n")
    sql = "SELECT list(repeat('x', 1000) || a::VARCHAR) AS l FROM range(10000000) t(a)"
    command = [sys.executable, "-c", PROGRAM, "256", sql, str(workspace)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace)
    assert ended.stdout.startswith("MemoryError the query needs more memory than the task has")


def test_nothing_is_left_behind(workspace: Path, context: ToolContext) -> None:
    query(context, "FROM t")
    assert [path.name for path in workspace.iterdir()] == ["t.csv"]
