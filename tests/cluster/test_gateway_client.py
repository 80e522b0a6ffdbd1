"""M13, B8, B4: the Python client and the command line at a gateway in front of the operator."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from cluster.gateways import Gateway, gateway_at, write_kubeconfig
from cluster.tenant import Tenant
from corral.api import Phase, Reason
from corral.client.gateway import (
    GatewayClient,
    NotFoundError,
    OutputPiece,
    RateLimitedError,
    TaskFinished,
    TimedOutError,
)
from eventually import eventually
from integration.cli.harness import Corral, Ended

SLEEP = "echo begun; sleep 120"
COUNT = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.3; done"


@pytest.fixture(scope="module")
def gateway(gateway_token: str, warm: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway in front of the operator."""
    place = tmp_path_factory.mktemp("gateway")
    kubeconfig = write_kubeconfig(place / "kubeconfig", gateway_token)
    budgets = {"bounded": {"concurrentTasks": 2}, "daily": {"executionsPerDay": 3, "cpuSecondsPerDay": 3600}}
    with gateway_at(place, kubeconfig, warm.name, CORRAL_BUDGETS=json.dumps(budgets)) as gateway:
        yield gateway


@pytest.fixture
def key(gateway: Gateway) -> str:
    """Return the key of a caller whom no other test is."""
    return gateway.key(f"client-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def client(gateway: Gateway, key: str) -> Iterator[GatewayClient]:
    """Return a client."""
    with corral.connect(gateway.url, api_key=key) as made:
        assert isinstance(made, GatewayClient)
        yield made


def test_M13_a_program_gets_the_same_from_a_cluster_as_from_this_machine(client: GatewayClient) -> None:
    def asked(runner: object) -> list[tuple[object, ...]]:
        assert isinstance(runner, GatewayClient | corral.Client)
        tasks = [
            runner.run("python", code="print('hi')\n6 * 7"),
            runner.run(
                "shell", command="echo $GREETING; cat a.txt", env={"GREETING": "hi"}, files={"a.txt": "x"}
            ),
            runner.run("calculator", expression="1 / 0"),
            runner.run("shell", command="echo out > b.txt", outputs=["*.txt"]),
        ]
        return [
            (
                task.result,
                task.reason,
                task.stdout,
                [(file.path, file.size) for execution in task.executions for file in execution.files],
            )
            for task in tasks
        ]

    with corral.Client() as here:
        assert asked(client) == asked(here)


def test_B8_events_are_typed_and_logs_are_their_text(client: GatewayClient) -> None:
    uid = client.submit("shell", command=COUNT + "; exit 3").metadata.uid or ""
    events = list(client.events(uid))
    printed = {"stdout": b"", "stderr": b""}
    for event in events:
        if isinstance(event, OutputPiece):
            printed[event.stream] += event.data
    assert printed == {"stdout": b"1\n2\n3\n", "stderr": b"e1\ne2\ne3\n"}
    assert isinstance(events[-1], TaskFinished)
    assert (events[-1].phase, events[-1].reason) == (Phase.FAILED, Reason.TOOL_ERROR)
    # Whoever comes back is told what is after the last number, once.
    for place, event in enumerate(events[:-1]):
        later = [one for one in client.events(uid, after=event.seq) if isinstance(one, TaskFinished)]
        assert later == [events[-1]], place
    told = {"stdout": "", "stderr": ""}
    for piece in client.logs(uid):
        told[piece.stream] += piece.text
    assert told == {"stdout": "1\n2\n3\n", "stderr": "e1\ne2\ne3\n"}


def test_B3_a_call_whose_time_is_over_cancels_its_task(client: GatewayClient) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOutError):
        client.run("shell", command=SLEEP, timeout=5)
    assert time.monotonic() - began < 40
    (task,) = client.tasks()
    assert client.wait(task.metadata.uid or "", timeout=60).reason is Reason.CANCELLED


def test_M13_many_at_once_without_threads(gateway: Gateway, key: str) -> None:
    async def squares() -> list[object]:
        async with corral.connect_async(gateway.url, api_key=key) as client:
            tasks = await asyncio.gather(
                *(client.run("calculator", expression=f"{n} ** 2") for n in range(6))
            )
        return [task.result for task in tasks]

    assert asyncio.run(squares()) == [number**2 for number in range(6)]


def test_M5_what_is_anothers_is_not_there(gateway: Gateway, client: GatewayClient) -> None:
    uid = client.run("calculator", expression="1").metadata.uid or ""
    with GatewayClient(gateway.url, api_key=gateway.key("a-stranger")) as stranger:
        for call in (stranger.get, stranger.cancel, lambda uid: list(stranger.logs(uid))):
            with pytest.raises(NotFoundError):
                call(uid)


def test_B4_a_budget_of_tasks_at_once_is_given_back_as_soon_as_one_ends(gateway: Gateway) -> None:
    with GatewayClient(gateway.url, api_key=gateway.key("bounded"), patience_seconds=0) as client:
        held = [client.submit("shell", command=SLEEP).metadata.uid or "" for _ in range(2)]
        with pytest.raises(RateLimitedError) as refused:
            client.submit("calculator", expression="1")
        assert refused.value.reason == "BudgetExhausted"
        assert "concurrentTasks: 2 of 2 are used" in refused.value.detail
        client.cancel(held[0])
        assert client.wait(held[0], timeout=60).reason is Reason.CANCELLED
        for _ in range(3):
            assert client.run("calculator", expression="6*7").result == 42
        client.cancel(held[1])
        client.wait(held[1], timeout=60)
    with gateway.http(gateway.key("bounded")) as http:
        (standing,) = [
            one for one in http.get("/v1/budget").json()["budgets"] if one["name"] == "concurrentTasks"
        ]
    assert standing == {"name": "concurrentTasks", "used": 0, "limit": 2}


def test_B4_executions_and_cpu_seconds_of_a_day_are_charged(gateway: Gateway) -> None:
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    with GatewayClient(gateway.url, api_key=gateway.key("daily"), patience_seconds=0) as client:
        assert client.run("shell", command=busy).succeeded
        for _ in range(2):
            client.run("calculator", expression="1")
        with pytest.raises(RateLimitedError) as refused:
            client.run("calculator", expression="1")
        assert "executionsPerDay: 3 of 3 are used" in refused.value.detail
    with gateway.http(gateway.key("daily")) as http:
        used = {one["name"]: one["used"] for one in http.get("/v1/budget").json()["budgets"]}
    assert used["executionsPerDay"] == 3
    assert used["cpuSecondsPerDay"] > 0.05


# --- the command line ---


def _env(gateway: Gateway, key: str) -> dict[str, str]:
    """Point the command at the gateway."""
    return {"CORRAL_GATEWAY": gateway.url, "CORRAL_API_KEY": key}


@pytest.mark.parametrize(
    "arguments",
    [
        ("calculator", "expression=6 * 7"),
        ("shell", "command=echo out; echo err >&2; exit 3"),
        ("shell", "command=cat; cat in.txt", "--file", "in.txt", "--limit", "timeout=10s"),
        ("calculator", "expresion=1"),
    ],
    ids=lambda words: "-".join(re.findall(r"\w+", " ".join(words)))[:40],
)
def test_M13_a_tool_runs_in_a_cluster_with_the_same_output_and_status(
    gateway: Gateway, key: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    here = Corral(tmp_path)
    (tmp_path / "in.txt").write_text("from a file\n")
    assert here("run", *arguments, env=_env(gateway, key)) == here("run", *arguments)


def test_B8_logs_follow_a_task_and_end_as_it_does(
    gateway: Gateway, key: str, client: GatewayClient, tmp_path: Path
) -> None:
    command, env = Corral(tmp_path), _env(gateway, key)
    task = client.submit("shell", command=COUNT)
    uid, name = task.metadata.uid or "", task.metadata.name or ""
    whole = Ended(0, "1\n2\n3\n", "e1\ne2\ne3\n")
    assert command("logs", "-f", name, env=env) == whole
    assert command("logs", uid[:13], env=env) == whole
    failing = client.submit("shell", command="echo begun; exit 3").metadata.uid or ""
    ended = command("logs", "-f", failing, env=env)
    assert (ended.status, ended.out) == (1, "begun\n")
    assert "ToolError" in ended.err


def test_M13_tasks_are_listed_and_cancelled(
    gateway: Gateway, key: str, client: GatewayClient, tmp_path: Path
) -> None:
    command, env = Corral(tmp_path), _env(gateway, key)
    task = client.submit("shell", command=SLEEP)
    uid = task.metadata.uid or ""
    eventually(
        lambda: client.get(uid).status, lambda status: status is not None and status.phase == "Running"
    )
    listed = command("tasks", env=env)
    assert listed.status == 0
    assert uid in listed.out
    assert command("tasks", "cancel", uid, env=env).status == 0
    assert client.wait(uid, timeout=60).reason is Reason.CANCELLED
