"""While the audit cannot be written, nothing new is begun, and nothing that runs is lost."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Connection

from corral.api import (
    AgentTask,
    AgentTaskSpec,
    AgentTaskStatus,
    ExecutionStatus,
    ObjectMeta,
    Phase,
    Reason,
    Usage,
)
from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from corral_gateway.audit.records import Kind, OfTheAudit
from eventually import eventually
from integration.gateway.audited import recorded, rows, verdict_of
from integration.gateway.calling import grpc_of
from integration.gateway.running import CALCULATE, gateway_in, problem
from integration.gateway.serving import CORRAL


@contextmanager
def serving_on_a_small_disk(directory: Path) -> Iterator[tuple[str, str, Path]]:
    """Serve with a file system of 12 MiB of its own for data; yield address, the admin's key, and that directory."""
    (directory / "data").mkdir()
    log = directory / "serve.log"
    apart, back = ["unshare", "--mount"], ""
    if os.getuid() != 0:
        # To mount takes a root of one's own; what serves must not be one, for it has nobody else to run tools as.
        apart = ["unshare", "--user", "--map-root-user", "--mount"]
        back = f"unshare --user --map-user={os.getuid()} --map-group={os.getgid()} "
    script = f"mount -t tmpfs -o size=12m,mode=700 none data && exec {back}{CORRAL} serve"
    env = {**os.environ, "PORT": "0", "CORRAL_METRICS_PORT": "0", "CORRAL_WAITING_SANDBOXES": "0"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*apart, "sh", "-c", script], cwd=directory, env=env, stdout=file, stderr=file
        )
    try:
        address = eventually(lambda: re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()))
        key = re.search(r"corral_[0-9a-f]{12}_\S{43}", log.read_text())
        assert address is not None, log.read_text()
        assert key is not None
        # Its file system, as seen from outside.
        yield address[1], key[0], Path(f"/proc/{process.pid}/root{directory}/data")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _fill(directory: Path) -> Path:
    """Take every byte that is left on a disk."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def test_M8_a_full_disk_refuses_new_work_says_so_and_loses_nothing_that_runs(tmp_path: Path) -> None:
    with serving_on_a_small_disk(tmp_path) as (url, key, data):
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as caller:
            running = {"tool": "shell", "arguments": {"command": "sleep 3; echo kept"}}
            uid = caller.post("/v1/tasks", json=running).json()["metadata"]["uid"]
            eventually(lambda: caller.get(f"/v1/tasks/{uid}").json().get("status", {}).get("startTime"))
            filler = _fill(data)
            refused = eventually(
                lambda: caller.post("/v1/tasks", json=CALCULATE), lambda answer: answer.status_code == 503
            )
            assert problem(refused) == (503, "AuditUnavailable")
            assert "the disk is full" in refused.json()["detail"]
            health = caller.get("/health").json()
            assert (health["status"], health["detail"]) == (
                "degraded",
                "the audit cannot be written: the disk is full",
            )
            unready = caller.get("/ready")
            assert problem(unready) == (503, "NotReady")
            assert unready.json()["detail"] == "the audit cannot be written: the disk is full"
            assert caller.get("/v1/tools").status_code == 200, "what only looks goes on"
            assert caller.get(f"/v1/tasks/{uid}?wait=6s").status_code == 200, "it ends while the disk is full"
            filler.unlink()
            eventually(lambda: caller.get("/health").json()["status"], lambda status: status == "healthy")
            assert caller.get("/ready").status_code == 200
            ended = caller.get(f"/v1/tasks/{uid}?wait=30s").json()
            assert ended["status"]["reason"] == "Completed"
            assert ended["status"]["executions"][0]["output"]["stdout"] == "kept\n"
            assert caller.post("/v1/tasks?wait=60s", json=CALCULATE).status_code == 201
        copy = tmp_path / "copy"
        eventually(lambda: _executions(data, copy), lambda found: len(found) >= 2)
    interrupted = rows(copy, "SELECT record FROM audit_log WHERE kind = 'audit.interrupted'")
    assert len(interrupted) == 1
    assert '"why":"the disk is full"' in interrupted[0]["record"]


def _executions(data: Path, copy: Path) -> list[dict[str, object]]:
    """Copy a database that another process writes to, and look at it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("corral.db", "corral.db-wal"):
        (copy / name).write_bytes((data / name).read_bytes())
    return rows(copy, "SELECT * FROM executions WHERE reason = 'Completed'")


async def test_M8_what_waited_is_written_when_the_database_takes_it_again(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as caller:
        await recorded(tmp_path, "SELECT * FROM audit_log")
        database = gateway.services.audit.store.database
        await database.transaction(_full)
        answer = await caller.post("/v1/tasks", json=CALCULATE)
        for _ in range(40):
            if answer.status_code == 503:
                break
            answer = await caller.post("/v1/tasks", json=CALCULATE, headers={"User-Agent": "x" * 250})
        assert problem(answer) == (503, "AuditUnavailable")
        before = gateway.services.audit.waiting
        assert before > 0
        assert (await caller.get("/v1/tools")).status_code == 200
        assert gateway.services.audit.waiting > before, "kept until it can be written"
        await database.transaction(_with_room)
        await recorded(tmp_path, "SELECT * FROM audit_log WHERE kind = 'audit.interrupted'")
        assert (await caller.post("/v1/tasks?wait=60s", json=CALCULATE)).status_code == 201
    found = rows(tmp_path, "SELECT * FROM requests WHERE reason = 'AuditUnavailable'")
    assert sum(row["count"] for row in found) >= 1
    assert (await verdict_of(tmp_path)).holds


def _full(connection: Connection) -> None:
    """Have SQLite itself say what it says of a full disk; the page count holds for this connection."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def _with_room(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")


async def test_B13_grpc_says_that_it_does_not_serve_while_nothing_can_be_written(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path) as gateway,
        grpc_of(gateway) as door,
        door.channel() as channel,
        await gateway.caller() as caller,
    ):
        health, stub = health_pb2_grpc.HealthStub(channel), pb_grpc.AgentServiceStub(channel)

        async def said() -> tuple[int, int, bool]:
            whole = await health.Check(health_pb2.HealthCheckRequest())
            service = await health.Check(
                health_pb2.HealthCheckRequest(service="corral.agent.v1.AgentService")
            )
            own = await stub.HealthCheck(pb.HealthCheckRequest())
            return whole.status, service.status, own.healthy

        async def until(wanted: tuple[int, int, bool]) -> None:
            async with asyncio.timeout(60):
                while await said() != wanted:
                    await caller.post("/v1/tasks", json=CALCULATE, headers={"User-Agent": "x" * 250})

        serving, not_serving = (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        )
        assert await said() == (serving, serving, True)
        database = gateway.services.audit.store.database
        await database.transaction(_full)
        await until((not_serving, not_serving, False))
        await database.transaction(_with_room)
        await until((serving, serving, True))


async def test_M8_so_many_records_wait_that_reading_is_refused_too(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as caller:
        recorder = gateway.services.audit._recorder
        work = recorder._work
        assert work is not None
        work.cancel()  # nothing is written any more
        for _ in range(10_000):
            recorder.note(OfTheAudit(Kind.AUDIT_STARTED, {}))
        assert problem(await caller.get("/v1/tools")) == (503, "AuditUnavailable")
        assert (await caller.get("/health")).status_code == 200
        recorder.start()
        await recorded(tmp_path, "SELECT * FROM requests WHERE reason = 'AuditUnavailable'")
        assert (await caller.get("/v1/tools")).status_code == 200
    assert (await verdict_of(tmp_path)).holds


async def test_M8_one_record_that_no_column_holds_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller("ana") as caller:
        usage = Usage(wall_seconds=1e300)
        one = ExecutionStatus(name="main", tool="calculator", phase=Phase.SUCCEEDED, usage=usage)
        spec = AgentTaskSpec(tool="calculator")
        task = AgentTask(metadata=ObjectMeta(name="odd", uid="odd"), spec=spec)
        gateway.services.audit.auditing.ended(task.model_copy(update={"status": _with(one)}), "ana", 0)
        made = await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
        assert made.status_code == 201
        assert (await caller.get("/health")).json()["status"] == "healthy"
    (damaged,) = rows(tmp_path, "SELECT record FROM audit_log WHERE kind = 'audit.damaged'")
    assert '"of":"execution"' in damaged["record"]
    assert rows(tmp_path, "SELECT task_uid FROM executions") == [{"task_uid": made.json()["metadata"]["uid"]}]
    assert (await verdict_of(tmp_path)).findings == []


def _with(execution: ExecutionStatus) -> AgentTaskStatus:
    return AgentTaskStatus(phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, executions=(execution,))
