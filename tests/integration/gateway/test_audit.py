"""What is recorded of requests, decisions and executions."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from corral.api import AgentTask, AgentTaskSpec, AgentTaskStatus, ObjectMeta, Phase, Reason
from corral_gateway.identity.roles import Role
from corral_gateway.tasks.port import LastingObserver
from integration.gateway.audited import recorded, rows, tampering, verdict_of
from integration.gateway.calling import grpc_of, request_for
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in, problem
from integration.gateway.serving import corral

_RECENT = "SELECT * FROM requests ORDER BY created_at DESC LIMIT 10"


async def test_M8_a_fault_of_the_gateway_is_recorded_counted_and_answered_as_one(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller("ana") as caller:
        with tampering(tmp_path) as connection:
            connection.execute("ALTER TABLE tasks RENAME TO tasks_elsewhere")
        answer = await caller.get("/v1/tasks")
        with tampering(tmp_path) as connection:
            connection.execute("ALTER TABLE tasks_elsewhere RENAME TO tasks")
        assert problem(answer) == (500, "InternalError")
        assert answer.headers["x-ratelimit-limit"] == "600"
        assert 'request_duration_seconds_count{method="GET",route="/v1/tasks",status="500"} 1.0' in (
            gateway.metrics_text
        )
    (request,) = rows(tmp_path, "SELECT * FROM requests WHERE request_id = ?", answer.headers["x-request-id"])
    assert (request["code"], request["status"], request["reason"]) == ("500", "error", "InternalError")


async def test_A8_the_query_of_the_document_shows_requests_decisions_and_executions(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller("ana") as caller:
        body = {"tool_name": "calculator", "parameters": {"expression": "6*7"}}
        answer = await caller.post("/tools/execute", json=body, headers={"User-Agent": "a test"})
        request_id = answer.headers["x-request-id"]
    (request,) = rows(tmp_path, _RECENT)
    assert request["request_id"] == request_id
    assert (request["status"], request["code"], request["reason"]) == ("success", "200", None)
    assert (request["caller"], request["source"], request["user_agent"]) == ("ana", "127.0.0.1", "a test")
    assert re.fullmatch(r"key:[0-9a-f]{12}", request["credential"])
    assert (request["method"], request["route"]) == ("POST", "/tools/execute")
    assert request["created_at"] < request["ended_at"]
    assert json.loads(request["input"])["bytes"] == len(answer.request.content)
    (decision,) = rows(tmp_path, "SELECT * FROM decisions")
    assert (decision["request_id"], decision["selected_tools"], decision["allowed"]) == (
        request_id,
        "calculator",
        1,
    )
    (execution,) = rows(tmp_path, "SELECT * FROM executions")
    assert execution["task_uid"] == decision["task_uid"]
    assert (execution["tool_name"], execution["status"], execution["reason"]) == (
        "calculator",
        "success",
        "Completed",
    )
    assert execution["duration_ms"] >= 0
    assert json.loads(execution["usage"])["cpuSeconds"] > 0
    assert "6*7" not in str(rows(tmp_path, "SELECT record FROM audit_log")), "arguments are hashed by default"


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not installed here")
async def test_A8_the_query_of_the_document_is_answered_by_sqlite3(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller("ana") as caller:
        answer = await caller.post("/v1/tasks", json=CALCULATE)
    shown = subprocess.run(
        ["sqlite3", "data/corral.db", _RECENT],
        cwd=_as_data(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.headers["x-request-id"] in shown.stdout


async def test_A8_a_tool_that_fails_is_a_tool_error_of_its_request(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller("ana") as caller:
        body = {"tool_name": "calculator", "parameters": {"expression": "1/0"}}
        answer = await caller.post("/tools/execute", json=body)
        assert (answer.status_code, answer.json()["success"]) == (200, False)
    (request,) = rows(tmp_path, _RECENT)
    assert (request["status"], request["code"], request["reason"]) == ("tool_error", "200", "ToolError")


def _as_data(directory: Path) -> Path:
    (directory / "data").symlink_to(directory)
    return directory


async def test_A8_arguments_and_output_are_kept_if_asked_for_without_their_secrets(tmp_path: Path) -> None:
    secret = "corral_0123456789ab_" + "x" * 43
    arguments = {"command": f"echo seen; echo {secret} >/dev/null"}
    async with (
        gateway_in(tmp_path, CORRAL_AUDIT_ARGUMENTS="keep") as gateway,
        await gateway.caller() as caller,
    ):
        task = {"tool": "shell", "arguments": arguments}
        assert (await caller.post("/v1/tasks?wait=60s", json=task)).json()["status"]["reason"] == "Completed"
        odd = {"tool": "no-such-tool", "arguments": {"api_key": "hunter2"}}
        await caller.post("/v1/tasks?wait=60s", json=odd)
    everything = str(
        [rows(tmp_path, f"SELECT * FROM {table}") for table in ("audit_log", "requests", "decisions")]
    )
    assert "seen" in everything
    assert secret not in everything
    assert "hunter2" not in everything
    executions = rows(tmp_path, "SELECT * FROM executions ORDER BY seq")
    assert "echo seen" in executions[0]["input"]
    assert '"***"' in executions[-1]["input"], "a field that is called like a secret"
    assert (await verdict_of(tmp_path)).holds


async def test_M8_a_request_that_changes_something_is_recorded_before_it_does(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as caller:
        answer = await caller.post("/v1/tasks", json=SLEEP)
        begun = rows(tmp_path, "SELECT * FROM audit_log WHERE kind = 'request.begun'")
        assert [row["request_id"] for row in begun] == [answer.headers["x-request-id"]]
    kinds = [row["kind"] for row in rows(tmp_path, "SELECT kind FROM audit_log ORDER BY seq")]
    assert kinds == [
        "audit.started",
        "request.begun",
        "decision",
        "request.ended",
        "execution",
        "audit.stopped",
    ]


async def test_M8_calls_over_grpc_are_recorded_as_requests_are(gateway: Gateway, tmp_path: Path) -> None:
    async with grpc_of(gateway) as door, door.stub() as stub:
        request = request_for(CALCULATE, query="Calculate")
        assert (await stub.ExecuteTask(request, metadata=await door.metadata())).result == "42"
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ExecuteTask(request)
    found = await recorded(
        tmp_path, "SELECT * FROM requests WHERE ended_at > '' ORDER BY created_at", count=2
    )
    told = [(row["transport"], row["method"], row["code"], row["status"], row["reason"]) for row in found]
    assert told == [
        ("grpc", "ExecuteTask", "OK", "success", None),
        ("grpc", "ExecuteTask", "UNAUTHENTICATED", "refused", "Unauthenticated"),
    ]
    begun = rows(tmp_path, "SELECT kind FROM audit_log WHERE request_id = ?", found[0]["request_id"])
    assert [row["kind"] for row in begun] == ["request.begun", "decision", "request.ended"]


async def test_M8_refusals_are_recorded_with_who_refused_and_why(gateway: Gateway, tmp_path: Path) -> None:
    async with gateway.http() as nobody, await gateway.caller("looker", Role.VIEWER) as viewer:
        assert problem(await nobody.get("/v1/tasks"))[0] == 401
        assert problem(await viewer.post("/v1/tasks", json=CALCULATE))[0] == 403
        assert problem(await nobody.get("/nowhere"))[0] == 404
        assert (await nobody.get("/health")).status_code == 200
    found = await recorded(tmp_path, "SELECT * FROM requests ORDER BY created_at", count=3)
    told = [(row["code"], row["reason"], row["caller"], row["target"], row["status"]) for row in found]
    assert told == [
        ("401", "Unauthenticated", "", "/v1/tasks", "refused"),
        ("403", "Forbidden", "looker", "/v1/tasks", "refused"),
        ("404", "NotFound", "", "/nowhere", "refused"),
    ]


async def test_M8_a_guard_that_refuses_a_task_is_named_and_a_replay_is_told(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_WAITING_TASKS=0, CORRAL_CONCURRENT_TASKS=1) as gateway,
        await gateway.caller() as caller,
    ):
        host = {**CALCULATE, "workspace": {"hostPath": "/etc"}}
        assert problem(await caller.post("/v1/tasks", json=host))[1] == "PermissionDenied"
        headers = {"Idempotency-Key": "one"}
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE, headers=headers)
        await caller.post("/v1/tasks", json=CALCULATE, headers=headers)
        assert problem(await caller.post("/v1/tasks", json=SLEEP, headers=headers))[0] == 409
        await caller.post("/v1/tasks", json=SLEEP)
        assert problem(await caller.post("/v1/tasks", json=SLEEP))[1] == "NoCapacity"
    found = rows(tmp_path, "SELECT allowed, decided_by, reason FROM decisions ORDER BY seq")
    assert [(row["allowed"], row["decided_by"], row["reason"]) for row in found] == [
        (0, "NoHostPaths", "PermissionDenied"),
        (1, "", None),
        (1, "", "Replayed"),
        (0, "idempotency", "IdempotencyKeyUsed"),
        (1, "", None),
        (1, "", None),
        (0, "capacity", "NoCapacity"),
    ]
    assert (await verdict_of(tmp_path)).holds


async def test_M8_a_flood_of_refusals_is_counted_and_not_written_one_by_one(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, gateway.http() as nobody:
        for _ in range(120):
            await nobody.get("/v1/tasks")
    found = rows(tmp_path, "SELECT count FROM requests ORDER BY seq")
    assert [row["count"] for row in found] == [1] * 20 + [100]
    assert (await verdict_of(tmp_path)).holds


async def test_M8_an_execution_is_recorded_once_whoever_tells_of_it(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as caller:
        uid = (await caller.post("/v1/tasks?wait=60s", json=CALCULATE)).json()["metadata"]["uid"]
        task = await gateway.executor.get(uid, "someone")
        assert task is not None
        for _ in range(3):
            gateway.services.audit.auditing.ended(task, "", 1.0)  # as another gateway's watch does
    assert len(rows(tmp_path, "SELECT * FROM executions")) == 1
    async with gateway_in(tmp_path):
        pass
    assert len(rows(tmp_path, "SELECT * FROM executions")) == 1
    assert (await verdict_of(tmp_path)).holds


async def test_M8_what_ended_in_a_cluster_while_no_gateway_looked_is_recorded_once(tmp_path: Path) -> None:
    status = AgentTaskStatus(
        phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, completion_time="2026-01-01T00:00:00Z"
    )
    task = AgentTask(
        metadata=ObjectMeta(name="kubectls", uid="uid-1"),
        spec=AgentTaskSpec(tool="calculator"),
        status=status,
    )
    for _ in range(2):  # at each start all that has ended is told of
        async with gateway_in(tmp_path) as gateway:
            auditing = gateway.services.audit.auditing
            assert isinstance(auditing, LastingObserver)
            auditing.ended_before(task, "")
    (row,) = rows(tmp_path, "SELECT * FROM executions")
    assert row["task_uid"] == "uid-1"
    assert (await verdict_of(tmp_path)).holds


async def test_M8_executions_that_a_killed_process_did_not_come_to_are_recorded_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as caller:
        # What is noted and not written yet, a kill takes away.
        monkeypatch.setattr(gateway.services.audit._recorder, "note", lambda _what: None)
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
    assert rows(tmp_path, "SELECT * FROM executions") == []
    async with gateway_in(tmp_path):
        pass
    (row,) = rows(tmp_path, "SELECT * FROM executions")
    assert (row["tool_name"], row["caller"], row["reason"]) == ("calculator", "someone", "Completed")


async def test_M8_auditors_find_what_they_look_for_and_others_may_not(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with await gateway.caller("ana") as ana, await gateway.caller("eve", Role.AUDITOR) as auditor:
        assert problem(await ana.get("/v1/audit"))[0] == 403
        created = await ana.post("/v1/tasks?wait=60s", json=CALCULATE)
        uid, request_id = created.json()["metadata"]["uid"], created.headers["x-request-id"]
        await recorded(tmp_path, "SELECT * FROM requests WHERE request_id = ? AND ended_at > ''", request_id)

        async def kinds(**wanted: str) -> list[str]:
            answer = await auditor.get("/v1/audit", params=wanted)
            assert answer.status_code == 200, answer.text
            return [item["record"]["kind"] for item in answer.json()["items"]]

        of_the_request = ["request.ended", "execution", "decision", "request.begun"]
        assert sorted(await kinds(request_id=request_id)) == sorted(of_the_request)
        assert await kinds(task=uid) == ["execution", "decision"]
        assert await kinds(tool="calculator", kind="execution") == ["execution"]
        assert await kinds(reason="Forbidden", caller="ana") == ["request.refused"]
        assert await kinds(until="2020-01-01") == []
        assert await kinds(caller="ana", since="2020-01-01T00:00:00Z") != []
        assert problem(await auditor.get("/v1/audit", params={"kind": "gossip"}))[0] == 422

        first = (await auditor.get("/v1/audit", params={"limit": 2})).json()
        second = (await auditor.get("/v1/audit", params={"limit": 2, "after": first["after"]})).json()
        numbers = [item["record"]["seq"] for item in first["items"] + second["items"]]
        assert numbers == list(range(numbers[0], numbers[0] - 4, -1))


async def test_M8_an_export_is_verified_without_the_database(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    async with (
        gateway_in(data, CORRAL_AUDIT_HEAD_RECORDS=1) as gateway,
        await gateway.caller() as caller,
        await gateway.caller("eve", Role.AUDITOR) as auditor,
    ):
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
        await recorded(data, "SELECT * FROM requests WHERE status = 'success'")
        await recorded(data, "SELECT * FROM audit_heads", count=3)
        answer = await auditor.get("/v1/audit", headers={"Accept": "application/x-ndjson"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        ocsf = (await auditor.get("/v1/audit", params={"format": "ocsf"})).json()["items"]
    assert {event["class_uid"] for event in ocsf} >= {6003, 1008}
    assert all(event["type_uid"] == event["class_uid"] * 100 + event["activity_id"] for event in ocsf)
    file = tmp_path / "audit.jsonl"
    file.write_text(answer.text)
    done = corral(tmp_path, "audit", "verify", "--file", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "signed heads agree" in done.stdout
    lines = answer.text.splitlines(keepends=True)
    for damaged, said in (
        ("".join(lines[:2] + lines[3:]), "missing: record 3 is missing"),
        (answer.text.replace('"caller":"someone"', '"caller":"someine"', 1), "edited: record"),
        (
            "".join(lines[:1] + lines[2:3] + lines[1:2] + lines[3:]),
            "reordered: record 2 comes after record 3",
        ),
        (lines[0] + lines[1][:-20], "torn: line 2"),
    ):
        file.write_text(damaged)
        done = corral(tmp_path, "audit", "verify", "--file", str(file))
        assert (done.returncode, said in done.stdout) == (1, True), done.stdout


async def test_M8_the_command_lists_exports_and_verifies_what_lies_here(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    async with gateway_in(data) as gateway, await gateway.caller("ana") as caller:
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
    listed = corral(tmp_path, "audit", "list", "--caller", "ana", "--kind", "execution")
    header, line = listed.stdout.splitlines()
    assert header.split() == ["SEQ", "TIME", "KIND", "CALLER", "REASON", "WHAT"]
    assert re.fullmatch(r"\d+ +\S+ +execution +ana +Completed +calculator \S+", line.strip()), listed
    verified = corral(tmp_path, "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    head = verified.stdout.splitlines()[-1].removeprefix("head ")
    assert corral(tmp_path, "audit", "verify", "--head", head).returncode == 0
    wrong = head[:-1] + ("0" if head[-1] != "0" else "1")
    assert corral(tmp_path, "audit", "verify", "--head", wrong).returncode == 1
    assert corral(tmp_path, "audit", "verify", "--head", "12").returncode == 2
    assert corral(tmp_path, "audit", "list", "--kind", "gossip").returncode == 2
    exported = corral(tmp_path, "audit", "export", "--format", "ocsf", "--kind", "execution")
    assert json.loads(exported.stdout)["class_uid"] == 1007
    assert (data / "audit.key").stat().st_mode & 0o077 == 0


async def test_M8_old_records_go_as_a_whole_and_what_is_left_can_be_verified(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    async with gateway_in(data) as gateway, await gateway.caller() as caller:
        await caller.post("/v1/tasks?wait=60s", json=CALCULATE)
    assert corral(tmp_path, "audit", "prune", "--days", "1").stdout == "0 records removed\n"
    _age(data)
    async with gateway_in(data, CORRAL_AUDIT_DAYS=30) as gateway, await gateway.caller() as caller:
        await recorded(data, "SELECT * FROM audit_log WHERE kind = 'audit.removed'")
        await caller.get("/v1/tools")
    assert rows(data, "SELECT * FROM executions") == []
    assert rows(data, "SELECT min(seq) AS first FROM audit_log")[0]["first"] > 1
    verdict = await verdict_of(data)
    assert verdict.findings == []
    assert "records removed" in corral(tmp_path, "audit", "prune", "--days", "1").stdout


def _age(directory: Path) -> None:
    """Make what is recorded a year old, for the test of its removal alone: the chain does not hold then."""
    from integration.gateway.audited import tampering

    with tampering(directory) as connection:
        connection.execute("UPDATE audit_log SET time = '2020-' || substr(time, 6)")
        connection.execute("UPDATE tasks SET created_at = '2020-01-01 00:00:00.000000'")
