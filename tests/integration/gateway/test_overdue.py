"""A9: a request that hangs is answered in time, is not cut off halfway, and counts until it has ended."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from eventually import eventually_async
from integration.gateway.audited import recorded
from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem

LEAVES = {"tool": "shell", "arguments": {"command": "head -c 300000 /dev/zero > large"}, "outputs": ["large"]}


async def hanging(directory: Path, client: httpx.AsyncClient) -> tuple[str, Path]:
    """Return where a file of a task is downloaded, and the file: one that nobody can read until somebody writes."""
    uid = (await client.post("/v1/tasks?wait=60s", json=LEAVES)).json()["metadata"]["uid"]
    (kept,) = (directory / "artifacts" / uid).iterdir()
    kept.unlink()
    os.mkfifo(kept)
    return f"/v1/tasks/{uid}/files/large", kept


async def let_go(fifo: Path) -> None:
    """Let who reads it go on, with nothing."""
    os.close(await asyncio.to_thread(os.open, fifo, os.O_WRONLY))


def open_requests(gateway: Gateway) -> int:
    return len(gateway.services.entrance._open)


async def test_A9_a_request_that_hangs_is_answered_once_and_goes_on_unheard(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_REQUEST_SECONDS=1.5) as gateway, await gateway.caller() as client:
        where, fifo = await hanging(tmp_path, client)
        asking = asyncio.create_task(client.get(where))
        await eventually_async(lambda: 'reason="RequestOverdue"' in gateway.metrics_text)
        assert open_requests(gateway) == 1, "until it has ended it is one of its caller's"
        assert (await client.get("/v1/whoami")).status_code == 200
        await let_go(fifo)
        answer = await asking
        assert problem(answer) == (504, "RequestOverdue")
        await eventually_async(lambda: open_requests(gateway) == 0)
        request_id = answer.headers["x-request-id"]
        (found,) = await recorded(
            tmp_path, "SELECT * FROM requests WHERE request_id = ? AND ended_at > ''", request_id
        )
        assert "RequestOverdue" in str(found)
        assert 'reason="RequestOverdue"} 1.0' in gateway.metrics_text


async def test_A9_without_that_limit_it_hangs_as_long_as_it_likes(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_REQUEST_SECONDS=0) as gateway, await gateway.caller() as client:
        where, fifo = await hanging(tmp_path, client)
        asking = asyncio.create_task(client.get(where))
        done, _ = await asyncio.wait([asking], timeout=1)
        assert done == set()
        await let_go(fifo)
        await asking


@pytest.mark.parametrize("path", ["/v1/tasks?wait=30s", "/tools/execute"])
async def test_A9_who_waits_for_a_task_or_sends_slowly_has_the_time_that_it_takes(
    tmp_path: Path, path: str
) -> None:
    if path == "/tools/execute":
        body = {"tool_name": "shell", "parameters": {"command": "sleep 2; echo done"}}
    else:
        body = {"tool": "shell", "arguments": {"command": "sleep 2; echo done"}}

    async def slowly() -> AsyncIterator[bytes]:
        for letter in json.dumps(body):
            yield letter.encode()
            await asyncio.sleep(0.025)

    async with gateway_in(tmp_path, CORRAL_REQUEST_SECONDS=1.5) as gateway, await gateway.caller() as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=slowly(), headers=headers)
        assert answer.status_code in {200, 201}, answer.text
        assert "done" in answer.text
        uid = (await client.post("/v1/tasks", json=CALCULATE)).json()["metadata"]["uid"]
        events = await client.get(f"/v1/tasks/{uid}/events")
        assert "event: finished" in events.text
        assert 'reason="RequestOverdue"' not in gateway.metrics_text
