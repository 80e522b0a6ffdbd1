"""M9, S5: what happened is counted, under the documents' names, with labels that nobody can make up."""

import re
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem


def samples(gateway: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample but those of buckets and times."""
    text = generate_latest(gateway.services.metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created", "_sum"))
    }


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


async def test_S5_tasks_and_tools_are_counted_by_the_documents_names(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        await client.post("/v1/tasks?wait=60s", json=CALCULATE)
        await client.post("/v1/tasks?wait=60s", json={"steps": [{"name": "one", **CALCULATE}]})
        await client.post(
            "/v1/tasks?wait=60s", json={"tool": "calculator", "arguments": {"expression": "1/0"}}
        )
        await client.post("/v1/tasks?wait=60s", json={"tool": "a-word-of-somebody", "arguments": {}})
    found = samples(gateway)
    assert found["agent_core_tasks_total", labels(mode="tool", status="success")] == 1
    assert found["agent_core_tasks_total", labels(mode="chain", status="success")] == 1
    assert found["agent_core_tasks_total", labels(mode="tool", status="failure")] == 2
    assert found["agent_core_task_duration_seconds_count", labels(mode="tool")] == 3
    assert found["agent_core_tool_executions_total", labels(tool_name="calculator", status="success")] == 2
    assert found["agent_core_tool_executions_total", labels(tool_name="calculator", status="failure")] == 1
    assert found["agent_core_tool_duration_seconds_count", labels(tool_name="calculator")] == 3
    assert found["corral_gateway_executions_total", labels(reason="Completed")] == 2
    assert found["corral_gateway_tasks_active", labels()] == 0
    assert not any("a-word-of-somebody" in str(key) for key in found)


async def test_M9_refusals_are_counted_by_reason_and_paths_are_not_labels(gateway: Gateway) -> None:
    async with gateway.http() as nobody:
        assert problem(await nobody.get("/v1/tools")) == (401, "Unauthenticated")
        assert problem(await nobody.get("/no/such/path")) == (404, "NotFound")
    async with await gateway.caller() as client:
        assert (await client.get("/v1/tools/shell")).status_code == 200
    found = samples(gateway)
    assert found["agent_core_enforcement_drops_total", labels(reason="Unauthenticated")] == 1
    assert found["agent_core_enforcement_allowed_total", labels(outcome="success")] == 1
    routes = {
        dict(key[1])["route"]: value
        for key, value in found.items()
        if key[0] == "corral_gateway_request_duration_seconds_count"
    }
    assert routes == {"/v1/tools": 1, "none": 1, "/v1/tools/{name}": 1}


async def test_M9_every_metric_of_the_page_is_there_and_the_other_way_round(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/gateway.md").read_text(encoding="utf-8")
    async with gateway_in(tmp_path) as gateway:
        text = generate_latest(gateway.services.metrics.registry).decode()
    families = [family.name for family in text_string_to_metric_families(text)]
    names = {name for name in families if not name.endswith("_created")}  # of counters without labels
    named = re.findall(r"`((?:agent_core|corral_gateway)_\w+)", page)
    assert {name.removesuffix("_total") for name in named} == names
