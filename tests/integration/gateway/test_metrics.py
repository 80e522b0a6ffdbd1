"""M9, S5: what happened is counted, under the documents' names, with labels that nobody can make up."""

import re
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from corral.api import AgentTask
from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem

STARTS = ("cold", "warm", "resized")


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
    for step, count in {
        ("Pending", "Running"): 3,
        ("Running", "Succeeded"): 2,
        ("Running", "Failed"): 1,
        ("Pending", "Failed"): 1,
    }.items():
        key = labels(from_state=step[0], to_state=step[1])
        assert found["agent_core_fsm_transitions_total", key] == count
    for phase in ("queued", "claimed", "started", "finished"):
        assert found["corral_gateway_task_phase_seconds_count", labels(phase=phase)] == 3 - (
            phase == "queued"
        )
    assert found["corral_gateway_sandboxes_total", labels(start="cold")] == 3
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


async def test_M9_warm_starts_are_told_from_cold_ones(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        task = AgentTask.model_validate((await client.post("/v1/tasks?wait=60s", json=CALCULATE)).json())
        for change in ({"warm": True}, {"warm": True, "resized": True}):
            assert task.status is not None
            assert task.status.sandbox is not None
            sandbox = task.status.sandbox.model_copy(update=change)
            status = task.status.model_copy(update={"sandbox": sandbox})
            gateway.services.metrics.ended(task.model_copy(update={"status": status}), "someone", 0.1)
        found = samples(gateway)
    starts = {start: found["corral_gateway_sandboxes_total", labels(start=start)] for start in STARTS}
    assert starts == {"cold": 1, "warm": 1, "resized": 1}


async def test_M9_what_people_name_makes_no_more_series_than_are_allowed(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        task = AgentTask.model_validate((await client.post("/v1/tasks?wait=60s", json=CALCULATE)).json())
        assert task.status is not None
        for number in range(600):
            one = task.executions[0].model_copy(update={"tool": f"tool-{number}"})
            status = task.status.model_copy(update={"executions": (one,)})
            gateway.services.metrics.ended(task.model_copy(update={"status": status}), "someone", 0.1)
        found = samples(gateway)
    counted = [key for key in found if key[0] == "agent_core_tool_executions_total"]
    assert len(counted) == 501
    assert found["agent_core_tool_executions_total", labels(tool_name="other", status="success")] == 101


async def test_M9_each_millisecond_of_the_first_ones_has_a_bucket(gateway: Gateway) -> None:
    async with gateway.http() as nobody:
        await nobody.get("/health")
    text = generate_latest(gateway.services.metrics.registry).decode()
    bounds = {
        float(bound) for bound in re.findall(r'request_duration_seconds_bucket\{le="([0-9.e-]+)"', text)
    }
    assert {milliseconds / 1000 for milliseconds in range(1, 7)} <= bounds
    assert 'corral_build_info{component="gateway",version="' in text
    assert "process_resident_memory_bytes" in text


async def test_M9_every_metric_of_the_page_is_there_and_the_other_way_round(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/gateway.md").read_text(encoding="utf-8")
    section = page.split("## Metrics\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    told = {
        name.removesuffix("_total")
        for row in rows
        for name in re.findall(r"`((?:agent_core|corral)_\w+)", row)
    }
    async with gateway_in(tmp_path) as gateway:
        text = generate_latest(gateway.services.metrics.registry).decode()
    families = [family.name for family in text_string_to_metric_families(text)]
    names = {name for name in families if not name.endswith("_created")}  # of counters without labels
    assert {name for name in names if name.startswith(("agent_core_", "corral_"))} == told


def test_M9_what_001_names_is_there_or_is_said_to_be_absent() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/gateway.md").read_text(encoding="utf-8")
    for name in (
        "agent_core_tasks_total{mode,status}",
        "agent_core_task_duration_seconds{mode}",
        "agent_core_task_tokens",
        "agent_core_tool_executions_total{tool_name,status}",
        "agent_core_tool_duration_seconds{tool_name}",
        "agent_core_tool_selection_duration_seconds",
        "agent_core_memory_pool_used_bytes",
        "agent_core_memory_pool_total_bytes",
        "agent_core_grpc_requests_total{method,status}",
        "agent_core_grpc_request_duration_seconds{method}",
        "agent_core_enforcement_drops_total{reason}",
        "agent_core_enforcement_allowed_total{outcome}",
        "agent_core_fsm_transitions_total{from_state,to_state}",
        "agent_core_fsm_current_state",
    ):
        assert f"`{name}`" in page, name
