"""B8: a task's events are read as they come, again from any of them on, and after the gateway was started anew."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from integration.gateway.running import Gateway, gateway_in, problem

COUNT = {"tool": "shell", "arguments": {"command": "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done"}}


def parsed(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Return the events of a stream."""
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def events(
    client: httpx.AsyncClient, where: str, **headers: str
) -> list[tuple[int, str, dict[str, Any]]]:
    """Read a task's events to their end."""
    answer = await client.get(f"{where}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parsed(answer.text)


async def test_B8_events_are_numbered_complete_and_end_with_the_tasks_end(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=COUNT)).headers["location"]
        found = await events(client, where)
    assert [seq for seq, _, _ in found] == list(range(1, len(found) + 1))
    kinds = [kind for _, kind, _ in found]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("started", "ended", "finished")
    assert "".join(data["text"] for _, kind, data in found if kind == "output") == "1\n2\n3\n4\n5\n"
    assert found[-1][2] == {"phase": "Succeeded", "reason": "Completed", "message": ""}


async def test_B8_whoever_lost_the_stream_goes_on_where_it_was(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=COUNT)).headers["location"]
        whole, *parts = await asyncio.gather(
            events(client, where), *(events(client, where, **{"Last-Event-ID": str(n)}) for n in range(4))
        )
        assert parts == [whole[n:] for n in range(4)]
        later = await events(client, where, **{"Last-Event-ID": "2"})
        assert later == whole[2:]
        assert await events(client, where, **{"Last-Event-ID": "999"}) == []


async def test_B8_events_outlive_the_gateway(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            where = (await client.post("/v1/tasks", json=COUNT)).headers["location"]
            before = await events(client, where)
    async with gateway_in(tmp_path) as gateway, gateway.http(key) as client:
        assert await events(client, where, **{"Last-Event-ID": "1"}) == before[1:]


async def test_B8_what_is_not_text_comes_whole(gateway: Gateway) -> None:
    task = {"tool": "shell", "arguments": {"command": "printf '\\377\\376'"}}
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=task)).headers["location"]
        found = await events(client, where)
    assert [data["base64"] for _, kind, data in found if kind == "output"] == ["//4="]


async def test_B8_a_number_that_is_none_is_refused(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        where = (await client.post("/v1/tasks", json=COUNT)).headers["location"]
        for number in ("x", "-1"):
            answer = await client.get(f"{where}/events", headers={"Last-Event-ID": number})
            assert problem(answer) == (422, "InvalidRequest")
