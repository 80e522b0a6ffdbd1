"""Whoever changes what was recorded is found out: each way tried on the database file of a gateway that ran."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from corral_gateway.audit.chain import Head, canonical, link
from eventually import eventually_async
from integration.gateway.audited import recorded, rows, tampering, verdict_of
from integration.gateway.running import CALCULATE, gateway_in, problem


async def _a_day(directory: Path) -> None:
    """Let a gateway run a little, and end."""
    async with gateway_in(directory) as gateway, await gateway.caller("ana") as caller:
        assert (await caller.post("/v1/tasks?wait=60s", json=CALCULATE)).status_code == 201
        assert (await caller.get("/v1/tools")).status_code == 200
        async with gateway.http() as nobody:
            assert problem(await nobody.get("/v1/tools"))[0] == 401


def _edit(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit_log SET record = replace(record, 'ana', 'bob') WHERE seq = 3")


def _edit_and_hash(connection: sqlite3.Connection) -> None:
    (record, previous) = connection.execute("SELECT record, previous FROM audit_log WHERE seq = 3").fetchone()
    record = record.replace("ana", "bob")
    connection.execute(
        "UPDATE audit_log SET record = ?, caller = 'bob', hash = ? WHERE seq = 3",
        (record, link(previous, record)),
    )


def _delete(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM audit_log WHERE seq = 3")


def _delete_first(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM audit_log WHERE seq <= 2")


def _truncate(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM audit_log WHERE seq > 3")


def _swap(connection: sqlite3.Connection) -> None:
    for old, new in ((3, -1), (4, 3), (-1, 4)):
        connection.execute("UPDATE audit_log SET seq = ? WHERE seq = ?", (new, old))


def _column(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit_log SET caller = 'bob' WHERE seq = 3")


def _time_in_the_request(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE requests SET created_at = '2020-01-01T00:00:00.000000Z' WHERE method = 'POST'")


def _decision(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE decisions SET caller = 'bob'")


def _no_execution(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM executions")


def _invented(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO executions (task_uid, execution, attempt, created_at, caller, tool_name, status, seq)"
        " VALUES ('x', 'main', 1, '2020', 'bob', 'shell', 'success', 3)"
    )


@pytest.mark.parametrize(
    ("attack", "problem_", "seq"),
    [
        (_edit, "edited", 3),
        (_edit_and_hash, "reordered", 4),
        (_delete, "missing", 3),
        (_delete_first, "missing", 1),
        (_truncate, "truncated", 4),
        (_swap, "reordered", 3),
        (_column, "forged", 3),
        (_time_in_the_request, "forged", 5),
        (_decision, "forged", 3),
        (_no_execution, "forged", 4),
        (_invented, "forged", 3),
    ],
)
async def test_M8_what_was_changed_is_found_and_named(
    tmp_path: Path, attack: Callable[[sqlite3.Connection], None], problem_: str, seq: int
) -> None:
    await _a_day(tmp_path)
    assert (await verdict_of(tmp_path)).findings == []
    with tampering(tmp_path) as connection:
        attack(connection)
    verdict = await verdict_of(tmp_path)
    found = {(one.problem, one.seq) for one in verdict.findings}
    assert (problem_, seq) in found, verdict.findings
    assert [one for one in verdict.findings if str(one.seq) not in one.message] == []


async def test_M8_cutting_off_the_end_shows_even_where_nothing_in_the_database_tells(tmp_path: Path) -> None:
    await _a_day(tmp_path)
    with tampering(tmp_path) as connection:
        _cut_off(connection)
    verdict = await verdict_of(tmp_path)
    assert [(one.problem, one.seq) for one in verdict.findings] == [("truncated", 4)]
    head = Head(*rows(tmp_path, "SELECT seq, hash FROM audit_log ORDER BY seq DESC")[0].values())
    (tmp_path / "audit-heads.jsonl").unlink()
    assert (await verdict_of(tmp_path)).holds, "without the file of heads, nothing is left to tell"
    kept_elsewhere = Head(head.seq + 3, "0" * 64)
    verdict = await verdict_of(tmp_path, anchors=[kept_elsewhere])
    assert [one.problem for one in verdict.findings] == ["truncated"]


def _cut_off(connection: sqlite3.Connection) -> None:
    """Remove the end of the log, and every trace of it in the database."""
    digest = connection.execute("SELECT hash FROM audit_log WHERE seq = 3").fetchone()[0]
    connection.execute("DELETE FROM audit_log WHERE seq > 3")
    connection.execute("UPDATE audit_end SET seq = 3, hash = ?", (digest,))
    for table in ("audit_heads", "requests", "decisions", "executions"):
        connection.execute(f"DELETE FROM {table} WHERE seq > 3")
    # The request's row is of its last record; put back what its first one says.
    record = json.loads(connection.execute("SELECT record FROM audit_log WHERE seq = 2").fetchone()[0])
    connection.execute(
        "INSERT INTO requests (request_id, created_at, caller, credential, source, user_agent, transport,"
        " method, route, target, status, count, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'started', 1, 2)",
        [
            record[name]
            for name in (
                "requestId",
                "began",
                "caller",
                "credential",
                "source",
                "userAgent",
                "transport",
                "method",
                "route",
                "target",
            )
        ],
    )


async def test_M8_a_whole_new_chain_does_not_meet_what_was_signed(tmp_path: Path) -> None:
    await _a_day(tmp_path)
    with tampering(tmp_path) as connection:
        _rewrite(connection)
    verdict = await verdict_of(tmp_path, projections=False)
    assert {one.problem for one in verdict.findings} == {"edited"}
    assert "not what was signed" in verdict.findings[0].message
    without_its_key = tmp_path / "audit.key"
    without_its_key.unlink()  # another is made, which nothing was signed with
    assert (await verdict_of(tmp_path, projections=False)).holds, (
        "the counter-proof: it is the signature that tells"
    )


def _rewrite(connection: sqlite3.Connection) -> None:
    """Put somebody else's name into every record, and compute the chain anew."""
    previous = "0" * 64
    for seq, text in connection.execute("SELECT seq, record FROM audit_log ORDER BY seq").fetchall():
        said = json.loads(text)
        if "caller" in said:
            said["caller"] = "bob"
        record = canonical(said)
        digest = link(previous, record)
        connection.execute(
            "UPDATE audit_log SET record = ?, caller = ?, previous = ?, hash = ? WHERE seq = ?",
            (record, said.get("caller"), previous, digest, seq),
        )
        previous = digest
    connection.execute("UPDATE audit_end SET hash = ?", (previous,))


async def test_M8_a_torn_write_ahead_log_shows(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    async with gateway_in(tmp_path, CORRAL_AUDIT_HEAD_RECORDS=1) as gateway, await gateway.caller() as caller:
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
        # request.ended is the fifth of these records, and each of their batches was signed.
        await recorded(tmp_path, "SELECT * FROM audit_heads WHERE seq = 5")
        await eventually_async(lambda: '"seq":5' in (tmp_path / "audit-heads.jsonl").read_text())
        # As it lies on the disk in this moment, which is what a crash of the machine leaves.
        for name in ("corral.db", "corral.db-wal", "audit.key", "audit-heads.jsonl"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
    whole = tmp_path / "whole"
    shutil.copytree(copy, whole)
    assert (await verdict_of(whole)).findings == []
    log = (copy / "corral.db-wal").read_bytes()
    (copy / "corral.db-wal").write_bytes(log[: log.index(b'"kind":"request.ended"')])
    verdict = await verdict_of(copy)
    assert {one.problem for one in verdict.findings} == {"truncated"}
    assert verdict.end.seq < 5


async def test_M8_a_torn_file_of_heads_is_told_and_written_on(tmp_path: Path) -> None:
    await _a_day(tmp_path)
    file = tmp_path / "audit-heads.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    verdict = await verdict_of(tmp_path)
    assert (verdict.findings, len(verdict.notes)) == ([], 1)
    await _a_day(tmp_path)
    verdict = await verdict_of(tmp_path)
    assert (verdict.findings, len(verdict.notes)) == ([], 1)
    assert verdict.heads >= 3  # two in the database, and the second in the file


async def test_M8_verification_that_leaves_out_the_chain_notices_nothing(tmp_path: Path) -> None:
    await _a_day(tmp_path)
    with tampering(tmp_path) as connection:
        _swap(connection)
        connection.execute("UPDATE audit_log SET hash = 'nothing' WHERE seq = 5")
    assert not (await verdict_of(tmp_path)).holds
    assert (await verdict_of(tmp_path, chain=False, projections=False)).holds
