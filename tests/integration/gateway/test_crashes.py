"""B1, B8, B13: the gateway's process is killed at the worst points; nothing is lost, doubled, or numbered anew."""

import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventually import eventually
from integration.gateway.running import CALCULATE
from integration.gateway.serving import new_key, serving
from integration.gateway.test_events import parsed

#: Serves as the command does, and is killed, as by the kernel, where a method of what runs tasks would begin.
_KILLED_AT = """
import os, signal, sys
from corral_gateway.tasks.embedded import EmbeddedTasks
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr(EmbeddedTasks, sys.argv.pop(1), die)
from corral.cli import main
main()
"""
_COUNT = {"tool": "shell", "arguments": {"command": "for i in $(seq 600); do echo $i; sleep 0.05; done"}}


@pytest.mark.parametrize(
    ("point", "is_replayed"),
    [
        ("submit", False),  # it was let in, and nothing of it is kept
        ("_begin", True),  # it is kept; nothing of it has begun, and nobody was answered
        ("_run_on", True),  # it is said that it begins, and nothing has
    ],
)
def test_B1_a_request_that_is_sent_again_after_a_crash_makes_one_task(
    tmp_path: Path, point: str, *, is_replayed: bool
) -> None:
    def send(url: str) -> httpx.Response:
        headers = {"X-API-Key": key, "Idempotency-Key": "order-4711"}
        return httpx.post(f"{url}/v1/tasks?wait=60s", json=CALCULATE, headers=headers, timeout=90)

    command = (sys.executable, "-c", _KILLED_AT, point, "serve")
    with serving(tmp_path, command=command) as (url, _, process):
        key = new_key(tmp_path)
        with pytest.raises(httpx.TransportError):
            send(url)
        assert process.wait(timeout=60) == -signal.SIGKILL
    with serving(tmp_path) as (url, _, _):
        again = send(url)
        assert ("idempotency-replayed" in again.headers) is is_replayed
        # What may have begun is not run again: nobody could tell whether it had done its work.
        expected = "SandboxFailed" if point == "_run_on" else "Completed"
        assert again.json()["status"]["reason"] == expected
        assert send(url).json() == again.json()
        items = httpx.get(f"{url}/v1/tasks", headers={"X-API-Key": key}, timeout=60).json()["items"]
        assert items == [again.json()]


def read_events(
    url: str, where: str, headers: dict[str, str], count: int
) -> list[tuple[int, str, dict[str, Any]]]:
    """Return events as they come, as soon as there are so many."""
    text = ""
    with httpx.stream("GET", f"{url}{where}/events", headers=headers, timeout=60) as answer:
        for piece in answer.iter_text():
            text += piece
            whole = parsed(text[: text.rfind("\n\n") + 2])
            if len(whole) >= count:
                return whole
    return parsed(text)


def test_B8_events_that_were_told_keep_their_numbers_after_a_crash(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _, process):
        headers = {"X-API-Key": new_key(tmp_path)}
        where = httpx.post(f"{url}/v1/tasks", json=_COUNT, headers=headers, timeout=60).headers["location"]
        told = read_events(url, where, headers, 12)
        process.kill()
        process.wait(timeout=60)
    with serving(tmp_path) as (url, _, _):
        all_of_it = read_events(url, where, headers, 1 << 30)
        assert all_of_it[: len(told)] == told
        assert [seq for seq, _, _ in all_of_it] == list(range(1, len(all_of_it) + 1))
        last = str(told[-1][0])
        rest = read_events(url, where, {**headers, "Last-Event-ID": last}, 1 << 30)
        assert rest == all_of_it[len(told) :]
        assert (rest[-1][1], rest[-1][2]["reason"]) == ("finished", "SandboxFailed")


def test_B13_what_an_execution_did_before_the_crash_stays_known(tmp_path: Path) -> None:
    steps = [{"name": "first", **CALCULATE}, {"name": "second", **_COUNT}]
    with serving(tmp_path) as (url, _, process):
        headers = {"X-API-Key": new_key(tmp_path)}
        where = httpx.post(f"{url}/v1/tasks", json={"steps": steps}, headers=headers, timeout=60).headers[
            "location"
        ]
        # An event of the second step is told after it is kept, and with it how the task stood then.
        read_events(url, where, headers, 6)
        eventually(
            lambda: httpx.get(f"{url}{where}", headers=headers, timeout=60).json()["status"]["executions"],
            lambda executions: len(executions) == 2,
        )
        read_events(url, where, headers, 10)
        process.kill()
        process.wait(timeout=60)
    with serving(tmp_path) as (url, _, _):
        status = httpx.get(f"{url}{where}", headers=headers, timeout=60).json()["status"]
        first, second = status["executions"]
        assert (first["reason"], first["result"]) == ("Completed", 42)
        assert second["reason"] == status["reason"] == "SandboxFailed"
        assert [one["type"] for one in status["conditions"]] == ["Accepted", "Started", "Finished"]
