"""The audit, tasks and their events on a real PostgreSQL, by one gateway and by two processes that share it."""

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from corral_gateway.audit.heads import HeadsFile, read_or_make_key
from corral_gateway.audit.verification import Evidence, Verdict, verify
from corral_gateway.identity.roles import Role
from corral_gateway.storage.database import Database
from corral_gateway.tasks.events import HIGHEST_NUMBER
from integration.gateway.running import CALCULATE, SLEEP, gateway_in, problem
from integration.gateway.serving import corral, serving


@pytest.fixture
async def database_url(postgres_server: str) -> str:
    """An empty database."""
    engine = create_async_engine(postgres_server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("DROP DATABASE IF EXISTS of_a_test WITH (FORCE)"))
        await connection.execute(text("CREATE DATABASE of_a_test"))
    await engine.dispose()
    return postgres_server.rpartition("/")[0] + "/of_a_test"


async def _verdict(url: str, *directories: Path) -> Verdict:
    database = Database(url)
    keys = frozenset(read_or_make_key(directory / "audit.key").public for directory in directories)
    lines = [line for directory in directories for line in HeadsFile(directory / "audit-heads.jsonl").heads()]
    try:
        return await database.snapshot(lambda connection: verify(connection, Evidence(keys, lines)))
    finally:
        await database.close()


async def _rows(url: str, query: str) -> list[tuple[object, ...]]:
    database = Database(url)

    def read(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(text(query))]

    try:
        return await database.snapshot(read)
    finally:
        await database.close()


async def _change(database: Database, statement: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    await database.transaction(work)


async def test_M8_a_gateway_on_postgresql_keeps_everything_there(tmp_path: Path, database_url: str) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_DATABASE_URL=database_url) as gateway,
        await gateway.caller("ana") as caller,
        await gateway.caller("eve", Role.AUDITOR) as auditor,
    ):
        headers = {"Idempotency-Key": "one"}
        made = await caller.post("/v1/tasks?wait=60s", json=CALCULATE, headers=headers)
        assert made.json()["status"]["reason"] == "Completed", made.text
        again = await caller.post("/v1/tasks?wait=60s", json=CALCULATE, headers=headers)
        assert again.headers["idempotency-replayed"] == "true"
        odd = {"tool": "shell", "arguments": {"command": "printf 'a\\0b\\377'"}}
        uid = (await caller.post("/v1/tasks?wait=60s", json=odd)).json()["metadata"]["uid"]
        events = (await caller.get(f"/v1/tasks/{uid}/events")).text
        assert "event: finished" in events
        beyond = {"Last-Event-ID": str(HIGHEST_NUMBER)}
        assert (await caller.get(f"/v1/tasks/{uid}/events", headers=beyond)).text == ""
        assert len((await caller.get("/v1/tasks", params={"limit": 1})).json()["items"]) == 1
        assert problem(await gateway.http().get("/v1/tasks"))[0] == 401
        page = (await auditor.get("/v1/audit", params={"kind": "decision"})).json()["items"]
        assert {item["record"]["caller"] for item in page} <= {"ana"}
        exported = await auditor.get("/v1/audit", params={"format": "jsonl"})
        assert exported.status_code == 200
    verdict = await _verdict(database_url, tmp_path)
    assert verdict.findings == []
    assert verdict.heads >= 1
    assert not (tmp_path / "corral.db").exists()
    counted = await _rows(database_url, "SELECT count(*) FROM executions WHERE reason = 'Completed'")
    assert counted == [(2,)]


async def test_M8_what_was_changed_in_postgresql_is_found(tmp_path: Path, database_url: str) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_DATABASE_URL=database_url) as gateway,
        await gateway.caller("ana") as caller,
    ):
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
    database = Database(database_url)
    for attack, found in (
        ("UPDATE audit_log SET record = replace(record, 'ana', 'bob') WHERE seq = 3", ("edited", 3)),
        ("DELETE FROM audit_log WHERE seq = 3", ("missing", 3)),
        ("UPDATE requests SET caller = 'bob'", ("forged", 5)),
    ):
        await _change(database, attack)
        verdict = await _verdict(database_url, tmp_path)
        assert found in {(one.problem, one.seq) for one in verdict.findings}, verdict.findings
    await database.close()


async def test_M8_two_gateways_write_one_chain(tmp_path: Path, database_url: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    url = database_url.replace("+asyncpg", "")  # as people write it
    key = ""
    with (
        serving(one, CORRAL_DATABASE_URL=url) as (first, log, _),
        serving(other, CORRAL_DATABASE_URL=url) as (second, other_log, _),
    ):
        for text_ in (log.read_text(), other_log.read_text()):
            key = key or text_[text_.index("corral_") :].split()[0] if "corral_" in text_ else key
        headers = {"X-API-Key": key}
        async with httpx.AsyncClient(headers=headers, timeout=90) as client:
            answers = await asyncio.gather(
                *(
                    client.post(f"{(first, second)[place % 2]}/v1/tasks?wait=60s", json=CALCULATE)
                    for place in range(24)
                )
            )
    assert {answer.status_code for answer in answers} == {201}
    verdict = await _verdict(database_url, one / "data", other / "data")
    assert verdict.findings == []
    assert verdict.notes == []
    started = "SELECT count(DISTINCT record) FROM audit_log WHERE kind = 'audit.started'"
    assert await _rows(database_url, started) == [(2,)]
    assert await _rows(database_url, "SELECT count(*) FROM executions") == [(24,)]
    assert await _rows(database_url, "SELECT count(*) FROM requests WHERE status = 'success'") == [(24,)]


async def test_B13_a_gateway_that_starts_leaves_the_tasks_of_another_alone(
    tmp_path: Path, database_url: str
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    async with (
        gateway_in(one, CORRAL_DATABASE_URL=database_url, CORRAL_CONCURRENT_TASKS=1) as gateway,
        await gateway.caller("ana") as caller,
    ):
        first, second = [
            (await caller.post("/v1/tasks", json=task)).json()["metadata"]["uid"]
            for task in (SLEEP, CALCULATE)
        ]
        async with gateway_in(other, CORRAL_DATABASE_URL=database_url):
            pass
        await caller.delete(f"/v1/tasks/{first}")
        ends = [(await caller.get(f"/v1/tasks/{uid}?wait=60s")).json()["status"] for uid in (first, second)]
    assert [end["reason"] for end in ends] == ["Cancelled", "Completed"]
    assert await _rows(database_url, "SELECT count(*) FROM executions WHERE tool_name = 'calculator'") == [
        (1,)
    ]


async def test_M8_many_processes_bring_the_tables_up_to_date_at_once(database_url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from corral_gateway.storage.database import Database\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    await database.migrate()\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, database_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    ended = [(await process.communicate())[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ended


async def test_M8_a_database_that_goes_away_refuses_new_work_and_is_taken_up_again(
    tmp_path: Path, database_url: str, postgres_server: str
) -> None:
    engine = create_async_engine(postgres_server, isolation_level="AUTOCOMMIT")

    async def order(statement: str) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(statement))

    async with (
        gateway_in(tmp_path, CORRAL_DATABASE_URL=database_url) as gateway,
        await gateway.caller("ana") as caller,
    ):
        assert (await caller.post("/v1/tasks?wait=60s", json=CALCULATE)).status_code == 201
        await order("ALTER DATABASE of_a_test ALLOW_CONNECTIONS false")
        await order("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'of_a_test'")
        assert problem(await caller.post("/v1/tasks", json=CALCULATE)) == (503, "AuditUnavailable")
        assert (await caller.get("/health")).json()["status"] == "degraded"
        await order("ALTER DATABASE of_a_test ALLOW_CONNECTIONS true")
        async with asyncio.timeout(60):
            while (await caller.get("/health")).json()["status"] != "healthy":
                await asyncio.sleep(0.05)
        assert (await caller.post("/v1/tasks?wait=60s", json=CALCULATE)).status_code == 201
    await engine.dispose()
    assert (await _verdict(database_url, tmp_path)).findings == []
    assert await _rows(database_url, "SELECT count(*) FROM audit_log WHERE kind = 'audit.interrupted'") == [
        (1,)
    ]


def test_M8_a_url_that_names_no_known_database_is_refused_without_its_password(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CORRAL_DATABASE_URL=mysql://someone:hunter2@127.0.0.1/x\n")
    ended = corral(tmp_path, "audit", "list")
    assert ended.returncode == 2
    assert "CORRAL_DATABASE_URL" in ended.stderr
    assert "mysql is not supported" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    "path", ["/v1/tasks/%00", "/v1/tasks?tool=%00", "/v1/audit?caller=a%00b", "/v1/tools/%00/history"]
)
async def test_A9_a_nul_is_refused_and_no_fault_of_the_gateway(
    database_url: str, tmp_path: Path, path: str
) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_DATABASE_URL=database_url) as gateway,
        await gateway.caller("boss", Role.ADMIN) as client,
    ):
        assert problem(await client.get(path)) == (400, "MalformedRequest")
