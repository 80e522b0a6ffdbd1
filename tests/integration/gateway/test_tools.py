"""M7, S2, A1: tools are found, described and executed; the examples of the documents hold to the letter."""

import asyncio
from pathlib import Path

from eventually import eventually_async
from integration.gateway.running import SLEEP, Gateway, gateway_in, problem


async def test_A1_health_is_open_and_has_the_documents_shape(gateway: Gateway) -> None:
    async with gateway.http() as nobody:
        body = (await nobody.get("/health")).json()
    assert body == {"status": "healthy", "version": "0.1.0", "timestamp": body["timestamp"]}
    assert body["timestamp"].endswith("Z")


async def test_S2_execute_answers_as_the_document_says(gateway: Gateway) -> None:
    request = {"tool_name": "calculator", "parameters": {"expression": "42 + 58"}}
    async with await gateway.caller() as client:
        answer = await client.post("/tools/execute", json=request)
        assert (answer.status_code, answer.json()) == (200, {"success": True, "output": 100, "error": None})
        failed = await client.post(
            "/tools/execute", json={"tool_name": "calculator", "parameters": {"expression": "1/0"}}
        )
        assert failed.status_code == 200
        assert failed.json()["success"] is False
        assert failed.json()["error"].startswith("ToolError")


async def test_S2_a_request_that_is_wrong_is_no_failure_of_the_tool(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        for request, expected in (
            ({"tool_name": "no_such_tool"}, (404, "ToolNotFound")),
            ({"tool_name": "calculator", "parameters": {"expresion": "1"}}, (400, "InvalidArguments")),
            ({"tool_name": "calculator", "parameters": []}, (422, "InvalidRequest")),
            ({"tool": "calculator"}, (422, "InvalidRequest")),
        ):
            assert problem(await client.post("/tools/execute", json=request)) == expected


async def test_S2_parameters_that_no_task_can_have_are_refused_with_their_place(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        for value in ("1e999", "[" * 100 + "]" * 100, '"' + "x" * (300 << 10) + '"'):
            request = f'{{"tool_name": "calculator", "parameters": {{"expression": {value}}}}}'
            answer = await client.post("/tools/execute", content=request)
            assert problem(answer) == (422, "InvalidSpec")
            assert answer.json()["problems"][0]["path"].startswith("spec")


async def test_S2_the_list_is_one_of_names_and_leaves_out_what_is_dangerous(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        every = (await client.get("/tools/list")).json()
        safe = (await client.get("/tools/list", params={"exclude_dangerous": "true"})).json()
    assert {"calculator", "health_check", "list_dir", "read_file", "shell"} <= set(every)
    assert set(safe) < set(every)
    assert "calculator" in safe


async def test_M7_tools_are_found_by_words_and_described_whole(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        found = (await client.get("/v1/tools", params={"query": "read a file", "max_results": 3})).json()
        names = [tool["metadata"]["name"] for tool in found["items"]]
        assert len(names) == 3
        assert "read_file" in names
        files = (await client.get("/v1/tools", params={"category": "files"})).json()["items"]
        assert {tool["spec"]["category"] for tool in files} == {"files"}
        tool = (await client.get("/v1/tools/calculator")).json()
        assert tool["spec"]["inputSchema"]["required"] == ["expression"]
        assert problem(await client.get("/v1/tools/calculater")) == (404, "ToolNotFound")


async def test_B13_a_call_whose_task_waits_while_the_gateway_ends_is_told_so(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_CONCURRENT_TASKS=1) as gateway, await gateway.caller() as client:
        await client.post("/v1/tasks", json=SLEEP)
        call = {"tool_name": "calculator", "parameters": {"expression": "6*7"}}
        waiting = asyncio.create_task(client.post("/tools/execute", json=call))
        await eventually_async(lambda: gateway.executor.places.waiting == 1)
        await gateway.executor.close()
        answer = await waiting
    assert problem(answer) == (503, "HandedOver")
    assert "after the next start" in answer.json()["detail"]
