"""B13: a gateway is told to end, or killed. Nothing that it took in is lost, doubled, or done in another order."""

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventually import eventually
from integration.gateway.running import CALCULATE, SLEEP, problem
from integration.gateway.serving import CORRAL, corral, new_key, serving
from integration.gateway.test_crashes import read_events
from integration.sandbox.hosts_view import with_marker


def sleep_of_one_s_own() -> tuple[dict[str, Any], str]:
    """Make a task that ends when its sleep is ended, and what to find that by."""
    mark = f"31539{uuid.uuid4().int % 10**12}"
    return {"tool": "shell", "arguments": {"command": f"echo begun; sleep {mark}; echo done"}}, mark


def wake(mark: str) -> None:
    """End the sleep of a task, so that it goes on."""
    for pid in eventually(lambda: with_marker(f"sleep\0{mark}\0")):
        os.kill(pid, signal.SIGTERM)


def waiting_for(pool: ThreadPoolExecutor, where: str, headers: httpx.Headers) -> "Future[httpx.Response]":
    """Wait for a task's end on another thread; returns when the gateway has been asked."""
    asked = threading.Event()

    def see(event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            asked.set()

    def wait() -> httpx.Response:
        with httpx.Client(headers=headers, timeout=90) as client:
            return client.get(f"{where}?wait=60s", extensions={"trace": see})

    waiting = pool.submit(wait)
    assert asked.wait(60)
    return waiting


@contextmanager
def client_of(url: str, key: str) -> Iterator[httpx.Client]:
    """Yield a client of somebody."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=90) as client:
        yield client


def begun(client: httpx.Client, task: dict[str, Any]) -> str:
    """Send a task; return where it is, once it runs."""
    where: str = client.post("/v1/tasks", json=task).headers["location"]
    eventually(lambda: client.get(where).json()["status"], lambda status: status.get("startTime"))
    return where


def is_ending(client: httpx.Client) -> httpx.Response:
    """Wait until a gateway refuses new tasks; return how it does."""
    return eventually(
        lambda: client.post("/v1/tasks", json=CALCULATE), lambda answer: answer.status_code == 503
    )


def verified(directory: Path) -> str:
    """Return what is wrong with the audit; nothing if it holds."""
    done = corral(directory, "audit", "verify")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_B13_what_runs_ends_within_the_grace_and_whoever_waits_or_follows_gets_its_end(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, CORRAL_GRACE_SECONDS="30") as (url, log, process), ThreadPoolExecutor(2) as pool:
        key = new_key(tmp_path)
        with client_of(url, key) as client:
            task, mark = sleep_of_one_s_own()
            where = begun(client, task)
            waiting = waiting_for(pool, f"{url}{where}", client.headers)
            following = pool.submit(read_events, url, where, dict(client.headers), 1 << 30)
            eventually(lambda: "/events" in log.read_text())
            process.send_signal(signal.SIGTERM)
            refused = is_ending(client)
            assert problem(refused) == (503, "Ending")
            assert int(refused.headers["retry-after"]) > 0
            unready = client.get("/ready")
            assert problem(unready) == (503, "NotReady")
            # Behind a balancer the next request finds another gateway.
            assert unready.headers["connection"] == "close"
            assert client.get("/health").json()["status"] == "healthy"
            assert client.get(where).json()["status"]["phase"] == "Running"
        wake(mark)
        status = waiting.result().json()["status"]
        assert (status["reason"], status["executions"][0]["output"]["stdout"]) == (
            "Completed",
            "begun\ndone\n",
        )
        _, kind, end = following.result()[-1]
        assert (kind, end["reason"]) == ("finished", "Completed")
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in log.read_text()
    assert verified(tmp_path) == ""


def test_B13_what_runs_longer_than_the_grace_is_cancelled_and_says_so_to_who_waits(tmp_path: Path) -> None:
    with serving(tmp_path, CORRAL_GRACE_SECONDS="1") as (url, _, process), ThreadPoolExecutor(1) as pool:
        with client_of(url, new_key(tmp_path)) as client:
            where = begun(client, SLEEP)
            waiting = waiting_for(pool, f"{url}{where}", client.headers)
            assert client.get("/v1/whoami").status_code == 200  # so what was asked before has been heard
            process.send_signal(signal.SIGTERM)
            task = waiting.result().json()
        assert task["status"]["reason"] == "Cancelled"
        assert task["status"]["executions"][0]["output"]["stdout"] == "begun\n"
        assert process.wait(timeout=60) == 0
    assert verified(tmp_path) == ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_B13_what_had_not_begun_runs_at_the_next_start_as_it_would_have(
    tmp_path: Path, how: signal.Signals
) -> None:
    settings: dict[str, Any] = {"CORRAL_CONCURRENT_TASKS": "1", "CORRAL_BUDGET_EXECUTIONS": "7"}
    keyed = {"Idempotency-Key": "order-4711"}
    content = b"x" * 100_000  # too large to stand in the spec
    count = {"tool": "shell", "arguments": {"command": "wc -c < big"}}
    with serving(tmp_path, **settings) as (url, _, process), ThreadPoolExecutor(2) as pool:
        key = new_key(tmp_path)
        with client_of(url, key) as client:
            running = begun(client, SLEEP)
            first = client.post("/v1/tasks", json=CALCULATE, headers=keyed)
            with_file = client.post(
                "/v1/tasks",
                files={"task": (None, httpx.Response(200, json=count).text), "file": ("big", content)},
            )
            urgent = client.post("/v1/tasks", json={**CALCULATE, "priority": 5})
            places = [answer.headers["location"] for answer in (first, with_file, urgent)]
            call = {"tool_name": "calculator", "parameters": {"expression": "6*7"}}
            answers = [
                waiting_for(pool, f"{url}{places[0]}", client.headers),
                pool.submit(
                    httpx.post, f"{url}/tools/execute", json=call, headers=client.headers, timeout=90
                ),
            ]
            eventually(lambda: len(client.get("/v1/tasks?phase=Pending").json()["items"]) == 4)
            process.send_signal(how)
        if how is signal.SIGTERM:
            waited, called = (answer.result() for answer in answers)
            assert waited.json()["status"]["phase"] == "Pending"
            assert problem(called) == (503, "HandedOver")
            assert "retry-after" not in called.headers
            places.append(called.headers["location"])
        process.wait(timeout=60)
    assert verified(tmp_path) == ""
    with serving(tmp_path, **settings) as (url, _, _), client_of(url, key) as client:
        again = client.post("/v1/tasks", json=CALCULATE, headers=keyed)
        assert (again.headers["idempotency-replayed"], again.headers["location"]) == ("true", places[0])
        reason = "Cancelled" if how is signal.SIGTERM else "SandboxFailed"
        assert client.get(running).json()["status"]["reason"] == reason
        ended = [client.get(f"{where}?wait=60s").json()["status"] for where in places]
        assert {status["reason"] for status in ended} == {"Completed"}
        assert ended[1]["executions"][0]["output"]["stdout"] == f"{len(content)}\n"
        # The one with the higher priority first, the others as they came.
        began = [status["startTime"] for status in ended]
        assert sorted(began) == [began[2], began[0], began[1], *began[3:]]
        eventually(lambda: client.get("/v1/tasks").json()["items"], lambda items: all_ended(items, 5))
        used = {one["name"]: one["used"] for one in client.get("/v1/budget").json()["budgets"]}
        assert used["concurrentTasks"] == 0, used
        # Each counted once, but for the one whose process was killed: what it used is not known.
        assert used["executionsPerDay"] == (5 if how is signal.SIGTERM else 4), used
    assert verified(tmp_path) == ""


def all_ended(items: list[dict[str, Any]], count: int) -> bool:
    """Whether so many tasks are there, and none of them is to run."""
    return len(items) == count and all("reason" in task["status"] for task in items)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_B13_a_second_signal_ends_it_at_once_and_all_is_written_down(
    tmp_path: Path, second: signal.Signals
) -> None:
    with serving(tmp_path, CORRAL_GRACE_SECONDS="600", CORRAL_DRAIN_SECONDS="1") as (url, _, process):
        key = new_key(tmp_path)
        with client_of(url, key) as client:
            where = begun(client, SLEEP)
            process.send_signal(signal.SIGTERM)
            is_ending(client)
            process.send_signal(second)
            assert process.wait(timeout=60) == 0, "the grace is ten times as long"
    assert verified(tmp_path) == ""
    with serving(tmp_path) as (url, _, _), client_of(url, key) as client:
        assert client.get(where).json()["status"]["reason"] == "Cancelled"


def test_B13_while_it_drains_it_is_not_ready_and_takes_everything_in(tmp_path: Path) -> None:
    with serving(tmp_path, CORRAL_DRAIN_SECONDS="100", CORRAL_GRACE_SECONDS="30") as (url, _, process):
        with client_of(url, new_key(tmp_path)) as client:
            assert client.get("/ready").json() == {"status": "ready"}
            process.send_signal(signal.SIGTERM)
            unready = eventually(lambda: client.get("/ready"), lambda answer: answer.status_code == 503)
            assert problem(unready) == (503, "NotReady")
            assert unready.json()["detail"] == "the gateway is draining"
            done = client.post("/v1/tasks?wait=30s", json=CALCULATE).json()
            assert done["status"]["reason"] == "Completed"
        process.send_signal(signal.SIGTERM)  # nobody waits for the rest of the drain
        assert process.wait(timeout=60) == 0


def test_B13_no_two_gateways_run_the_tasks_of_one_directory(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _, _), client_of(url, new_key(tmp_path)) as client:
        where = begun(client, SLEEP)
        env = {"PORT": "0", "CORRAL_METRICS_PORT": "0", "CORRAL_GRPC_PORT": "0", "PATH": "/usr/bin:/bin"}
        second = subprocess.run(
            [CORRAL, "serve"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 2
        assert "CORRAL_DATA_DIR: a gateway runs tasks from" in second.stderr
        assert client.get(where).json()["status"]["phase"] == "Running"
