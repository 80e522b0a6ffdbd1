"""M5, B3, B13: tasks over HTTP, on real sandboxes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from corral.api import AgentTask
from corral_gateway.storage.models import TaskRow
from corral_gateway.tasks import router
from corral_gateway.tasks.observing import Observers
from eventually import eventually_async
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in, problem


async def test_M5_a_task_is_taken_in_and_its_result_is_waited_for(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json=CALCULATE)
        task = answer.json()
        assert (answer.status_code, task["status"]["reason"]) == (201, "Completed")
        assert task["status"]["executions"][0]["result"] == 42
        assert answer.headers["location"] == f"/v1/tasks/{task['metadata']['uid']}"
        assert task["metadata"]["labels"] == {"corral.dev/caller": "someone"}
        assert (await client.get(answer.headers["location"])).json() == task


async def test_M5_without_waiting_the_answer_comes_at_once_and_the_result_later(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks", json=CALCULATE)
        assert answer.status_code == 202
        assert "status" not in answer.json()
        ended = await client.get(answer.headers["location"], params={"wait": "60s"})
        assert ended.json()["status"]["reason"] == "Completed"


async def test_M5_a_whole_manifest_runs_and_what_only_the_gateway_says_is_not_believed(
    gateway: Gateway,
) -> None:
    manifest = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "mine", "uid": "forged", "labels": {"corral.dev/caller": "admin", "team": "a"}},
        "spec": {"steps": [{"name": "one", **CALCULATE}]},
        "status": {"phase": "Succeeded", "reason": "Completed"},
    }
    async with await gateway.caller() as client:
        task = (await client.post("/v1/tasks", json=manifest)).json()
    assert task["metadata"]["name"] == "mine"
    assert task["metadata"]["uid"] != "forged"
    assert task["metadata"]["labels"] == {"corral.dev/caller": "someone", "team": "a"}
    assert "status" not in task


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "spec"),
        ([], "spec"),
        (7, "spec"),
        ({"tool": "calculator", "arguments": {}, "limits": {"memory": "lots"}}, "spec.limits.memory"),
        ({"tol": "calculator"}, "spec.tol"),
        (
            {"kind": "Tool", "apiVersion": "corral.dev/v1alpha1", "metadata": {"name": "x"}, "spec": {}},
            "spec",
        ),
        ({"kind": "AgentTask", "spec": CALCULATE}, "apiVersion"),
        ({"tool": "calculator", "arguments": {"expression": float("inf")}}, "spec.arguments.expression"),
    ],
)
async def test_M5_a_task_that_is_wrong_is_refused_with_its_fields(
    gateway: Gateway, body: Any, path: str
) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks", content=json.dumps(body))
        assert problem(answer) == (422, "InvalidSpec")
        assert any(one["path"].startswith(path) for one in answer.json()["problems"]), answer.text
        assert (await client.get("/v1/tasks")).json() == {"items": []}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b""])
async def test_M5_what_is_no_json_is_refused(gateway: Gateway, body: bytes) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks", content=body, headers={"content-type": "application/json"})
    assert problem(answer) == (400, "MalformedBody"), answer.text


@pytest.mark.parametrize("wait", ["soon", "-1s", "10h", "30"])
async def test_M5_a_wait_that_is_not_possible_is_refused_and_nothing_runs(
    gateway: Gateway, wait: str
) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks", params={"wait": wait}, json=CALCULATE)
        assert problem(answer) == (422, "InvalidRequest")
        assert (await client.get("/v1/tasks")).json() == {"items": []}


async def test_M5_a_list_is_stable_from_page_to_page(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        made = [(await client.post("/v1/tasks?wait=60s", json=CALCULATE)).json() for _ in range(5)]
        wanted = [task["metadata"]["uid"] for task in reversed(made)]
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = (await client.get("/v1/tasks", params={"limit": 2, **after})).json()
            found += [task["metadata"]["uid"] for task in page["items"]]
            if "after" not in page:
                break
            after = {"after": page["after"]}
            await client.post("/v1/tasks", json=CALCULATE)  # what is new moves no page
        assert found == wanted
        none = await client.get("/v1/tasks", params={"reason": "OutOfMemory"})
        assert none.json() == {"items": []}
        assert problem(await client.get("/v1/tasks", params={"after": "x"})) == (422, "InvalidRequest")


async def test_M5_a_task_is_cancelled_and_keeps_what_it_printed(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]

        async def begun() -> bool:
            items = (await client.get("/v1/tasks", params={"phase": "Running"})).json()["items"]
            return len(items) == 1

        async with asyncio.timeout(60):
            while not await begun():
                await asyncio.sleep(0.02)
        assert (await client.delete(where)).status_code == 202
        ended = (await client.get(where, params={"wait": "60s"})).json()
        assert ended["status"]["reason"] == "Cancelled"
        again = await client.delete(where)
        assert again.json() == ended


async def test_B3_one_task_too_many_is_refused_at_once(tmp_path: Path) -> None:
    limits: Any = {"CORRAL_CONCURRENT_TASKS": 1, "CORRAL_WAITING_TASKS": 1}
    async with gateway_in(tmp_path, **limits) as gateway, await gateway.caller() as client:
        for _ in range(2):
            assert (await client.post("/v1/tasks", json=SLEEP)).status_code == 202
        answer = await client.post("/v1/tasks", json=SLEEP)
        assert problem(answer) == (503, "NoCapacity")
        assert int(answer.headers["retry-after"]) == answer.json()["retryAfter"] > 0


async def test_M5_a_task_that_runs_shows_how_it_stands(gateway: Gateway) -> None:
    steps = [{"name": "first", **CALCULATE}, {"name": "second", **SLEEP}]
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json={"steps": steps})).headers["location"]
        (live,) = gateway.executor._running.values()
        await eventually_async(lambda: live.status is not None and len(live.status.executions) == 2)
        await eventually_async(lambda: live.kept > 2 and not live.status_is_new)
        task = (await client.get(where)).json()
        status = task["status"]
        assert (status["phase"], "reason" in status, "completionTime" in status) == ("Running", False, False)
        assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
            ("Accepted", "True", "Accepted"),
            ("Started", "True", "SandboxAssigned"),
        ]
        first, second = status["executions"]
        assert (first["name"], first["phase"], first["result"]) == ("first", "Succeeded", 42)
        assert (second["name"], second["phase"], second["tool"]) == ("second", "Running", "shell")
        assert second["timings"]["started"] >= second["timings"]["claimed"] >= status["startTime"]
        assert second["sandbox"]["backend"] == status["sandbox"]["backend"] == "embedded"
        assert (await client.get("/v1/tasks")).json()["items"] == [task]
        row = await row_of(gateway, task["metadata"]["uid"])
        assert row.manifest == task  # so that others who read the database see it too
        await client.delete(where)
        await client.get(where, params={"wait": "60s"})


async def test_M5_a_task_that_waits_says_for_what(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_CONCURRENT_TASKS=1) as gateway, await gateway.caller() as client:
        first = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
        second = (await client.post("/v1/tasks", json=CALCULATE)).headers["location"]
        status = (await client.get(second)).json()["status"]
        assert (status["phase"], status["conditions"][1]["reason"]) == ("Pending", "WaitingForSandbox")
        await client.delete(first)
        ended = (await client.get(second, params={"wait": "60s"})).json()
        assert ended["status"]["reason"] == "Completed"


async def test_B13_a_task_that_had_not_begun_runs_at_the_next_start(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_CONCURRENT_TASKS=1) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            first = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
            second = (await client.post("/v1/tasks", json=CALCULATE)).headers["location"]
            (live, _) = gateway.executor._running.values()
            await eventually_async(lambda: live.status is not None)
    async with gateway_in(tmp_path) as gateway, gateway.http(key) as client:
        assert (await client.get(first)).json()["status"]["reason"] == "Cancelled"
        ended = (await client.get(second, params={"wait": "60s"})).json()
        assert ended["status"]["reason"] == "Completed"


async def row_of(gateway: Gateway, uid: str) -> TaskRow:
    """Return what the database has of a task."""
    async with gateway.executor._database.reading() as session:
        row = await session.get(TaskRow, uid)
    assert row is not None
    return row


async def test_A9_a_page_of_large_tasks_has_fewer_of_them(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "_MOST_PAGE_LETTERS", 300_000)
    prints = {
        "tool": "shell",
        "arguments": {"command": "head -c 65536 /dev/zero | tr '\\0' x | tee /dev/stderr"},
    }
    chain = {"steps": [{"name": f"s{number}", **prints} for number in range(3)], "strategy": "Parallel"}
    async with await gateway.caller() as client:
        made = []
        for _ in range(3):
            task = (await client.post("/v1/tasks", json=chain, params={"wait": "60s"})).json()
            assert task["status"]["reason"] == "Completed"
            made.append(task["metadata"]["uid"])
        found: list[str] = []
        after: dict[str, str] = {}
        for most_on_a_page in (1, 1, 1):
            answer = await client.get("/v1/tasks", params={"limit": 500, **after})
            items = answer.json()["items"]
            assert len(items) == most_on_a_page
            found += [task["metadata"]["uid"] for task in items]
            after = {"after": answer.json().get("after", "")}
        assert found == made[::-1]
        assert after == {"after": ""}


async def test_B13_a_task_that_a_gateway_left_unfinished_says_so_after_its_next_start(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            where = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
            # As a process that is killed: nothing of it writes any more.
            running = next(iter(gateway.executor._running.values()))
            await eventually_async(lambda: running.status is not None)
            gateway.executor._keeping._write = _never  # type: ignore[method-assign,assignment]
    async with gateway_in(tmp_path) as gateway, gateway.http(key) as client:
        task = (await client.get(where)).json()
        assert (task["status"]["phase"], task["status"]["reason"]) == ("Failed", "SandboxFailed")
        assert "the gateway ended" in task["status"]["message"]


async def _never(*_: object) -> None:
    return


async def test_M5_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async def endless() -> Any:
        for _ in range(1 << 20):
            yield b" " * 1024
        pytest.fail("all of it was read")

    async with gateway_in(tmp_path, max_request_size=4096) as gateway, await gateway.caller() as client:
        told = await client.post("/v1/tasks", content=b" " * 5000)
        assert problem(told) == (413, "RequestTooLarge")
        assert problem(await client.post("/v1/tasks", content=endless())) == (413, "RequestTooLarge")


async def test_B13_an_observer_that_fails_leaves_nobody_waiting(gateway: Gateway) -> None:
    class Failing:
        def ended(self, _task: AgentTask, _caller: str, _seconds: float) -> None:
            raise ValueError("nobody thought of this")

    gateway.executor._observers = Observers([Failing(), gateway.services.metrics])
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json=CALCULATE)
    assert answer.json()["status"]["reason"] == "Completed"
    assert 'agent_core_tasks_total{mode="tool",status="success"} 1.0' in gateway.metrics_text
