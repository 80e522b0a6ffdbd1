"""What a program in an image without a runner printed, read while the API server or the node has trouble."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.api import time_text
from corral.cluster.port import AGENT_TASKS, PODS, TOOLS, Refused, Unavailable
from eventually import eventually_async
from unit.operator.api_server import ApiServer, Json
from unit.operator.factories import raw_pod, terminated
from unit.operator.replica import Replica, running, status_of
from unit.operator.task_factories import PROGRAM, task_body, tool

ENDED = terminated("Completed", 0)
HOUR_OLD = {"running": {"startedAt": time_text(datetime.now(UTC) - timedelta(hours=1))}}


def _server() -> ApiServer:
    server = ApiServer()
    body = tool("program", run=PROGRAM).to_wire()
    body["metadata"]["namespace"] = "team"
    server.put(TOOLS, body)
    server.put(AGENT_TASKS, task_body({"tool": "program"}))
    server.printed = {"Stdout": b"out", "Stderr": b"err", "All": b"out err"}
    return server


async def _pod_becomes(replica: Replica, server: ApiServer, state: dict[str, Any]) -> None:
    """The kubelet tells what became of the pod that the operator makes."""
    (key,) = await eventually_async(lambda: [key for key in server.objects if key[0] == "pods"])
    phase = "Running" if "running" in state else "Succeeded"
    seen = raw_pod(key[2], state=state, phase=phase)
    body = server.put(PODS, {**server.objects[key], "status": seen["status"]})
    replica.operator.heard("MODIFIED", PODS, body)


async def _end(server: ApiServer) -> Json:
    await eventually_async(lambda: status_of(server).get("completionTime"))
    (main,) = status_of(server)["executions"]
    found: Json = main
    return found


def _trouble(server: ApiServer, error: Exception, *streams: str, times: int) -> None:
    left = [times]

    async def before(verb: str, _plural: str, stream: str) -> None:
        if verb == "logs" and stream in streams and left[0] > 0:
            left[0] -= 1
            raise error

    server.before = before


async def test_B13_a_log_that_cannot_be_read_for_a_moment_is_the_result_all_the_same() -> None:
    server = _server()
    _trouble(server, Unavailable("503", 0.001), "Stdout", "Stderr", "All", times=4)
    async with running(server) as replica:
        await _pod_becomes(replica, server, ENDED)
        main = await _end(server)
    assert (main["reason"], main["result"], main["output"]["stderr"]) == ("Completed", "out", "err")


async def test_B13_a_program_whose_log_is_never_to_be_had_has_not_completed() -> None:
    server = _server()
    _trouble(server, Unavailable("503", 0.001), "Stdout", "Stderr", "All", times=1000)
    async with running(server) as replica:
        await _pod_becomes(replica, server, ENDED)
        main = await _end(server)
    assert (main["reason"], main["exitCode"], main.get("result")) == ("SandboxFailed", 0, None)
    assert main["message"] == "the program ended well, but its result, the log, could not be read: 503"
    assert server.asked("logs", "pods") == 5


@pytest.mark.parametrize(
    ("streams", "reason", "result"),
    [
        (["Stdout", "Stderr"], "Completed", "out err"),
        (["Stdout", "Stderr", "All"], "SandboxFailed", None),
    ],
)
async def test_B13_where_the_streams_cannot_be_told_apart_they_are_read_together(
    streams: list[str], reason: str, result: str | None
) -> None:
    server = _server()
    _trouble(server, Refused(400, "BadRequest", "no such stream", {}), *streams, times=1000)
    async with running(server) as replica:
        await _pod_becomes(replica, server, ENDED)
        main = await _end(server)
    assert (main["reason"], main.get("result")) == (reason, result)


async def test_M2_a_node_that_hangs_does_not_hold_up_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral_operator.control.acting._LATE_LOG_SECONDS", 0.05)
    server = _server()

    async def before(verb: str, _plural: str, _name: str) -> None:
        if verb == "logs":
            await asyncio.Event().wait()

    server.before = before
    async with running(server) as replica:
        await _pod_becomes(replica, server, HOUR_OLD)
        main = await _end(server)
    assert (main["reason"], main["output"]["stdout"]) == ("DeadlineExceeded", "")
    assert main["output"]["stderr"] == "(the log could not be read: its node did not answer in time)"
    assert server.asked("logs", "pods") == 1


async def test_B13_what_a_program_prints_after_its_deadline_was_looked_at_is_read_when_it_has_ended() -> None:
    server = _server()
    read, go_on = asyncio.Event(), asyncio.Event()

    async def before(verb: str, _plural: str, stream: str) -> None:
        if verb == "logs" and stream == "Stderr" and not read.is_set():
            read.set()
            await go_on.wait()

    server.before = before
    async with running(server) as replica:
        await _pod_becomes(replica, server, HOUR_OLD)
        await read.wait()
        server.printed["Stdout"] = b"out, and the rest"
        await _pod_becomes(replica, server, ENDED)
        go_on.set()
        main = await _end(server)
    assert (main["reason"], main["result"]) == ("Completed", "out, and the rest")
