"""B1: the same key and request is the same task; another request with it is a conflict; nothing runs twice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem

KEY = {"Idempotency-Key": "order-4711"}


async def test_B1_the_same_request_again_is_the_same_task_and_runs_once(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        first = await client.post("/v1/tasks?wait=60s", json=CALCULATE, headers=KEY)
        again = await client.post("/v1/tasks?wait=60s", json=CALCULATE, headers=KEY)
        assert again.json() == first.json()
        assert (first.status_code, again.status_code) == (201, 201)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert len((await client.get("/v1/tasks")).json()["items"]) == 1


async def test_B1_another_request_with_the_key_is_a_conflict(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        await client.post("/v1/tasks", json=CALCULATE, headers=KEY)
        other = {**CALCULATE, "limits": {"timeout": "5s"}}
        assert problem(await client.post("/v1/tasks", json=other, headers=KEY)) == (409, "IdempotencyKeyUsed")
        assert len((await client.get("/v1/tasks")).json()["items"]) == 1


async def test_B1_a_key_is_its_callers_own(gateway: Gateway) -> None:
    async with await gateway.caller("one") as one, await gateway.caller("two") as two:
        mine = (await one.post("/v1/tasks", json=CALCULATE, headers=KEY)).json()["metadata"]["uid"]
        theirs = (await two.post("/v1/tasks", json=CALCULATE, headers=KEY)).json()["metadata"]["uid"]
    assert mine != theirs


async def test_B1_of_many_at_once_one_makes_the_task(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        answers = await asyncio.gather(
            *(client.post("/v1/tasks?wait=60s", json=CALCULATE, headers=KEY) for _ in range(10))
        )
        assert {answer.status_code for answer in answers} <= {201, 202}
        assert len({answer.json()["metadata"]["uid"] for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


async def test_B1_a_key_outlives_the_gateway(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        key = await gateway.key("someone")
        async with gateway.http(key) as client:
            first = await client.post("/v1/tasks?wait=60s", json=CALCULATE, headers=KEY)
    async with gateway_in(tmp_path) as gateway, gateway.http(key) as client:
        again = await client.post("/v1/tasks?wait=60s", json=CALCULATE, headers=KEY)
    assert again.json() == first.json()


@pytest.mark.parametrize(
    ("key", "spec"), [("", {}), ("two words", {}), ("x" * 256, {}), ("one", {"idempotencyKey": "another"})]
)
async def test_B1_a_key_that_is_none_is_refused_and_nothing_runs(
    gateway: Gateway, key: str, spec: dict[str, Any]
) -> None:
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks", json=CALCULATE | spec, headers={"Idempotency-Key": key})
        assert problem(answer) == (422, "InvalidSpec")
        assert answer.json()["problems"][0]["path"] == "spec.idempotencyKey"
        assert (await client.get("/v1/tasks")).json() == {"items": []}
