"""The gateway in front of the operator: a real process, a real API server, and what breaks between them."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from cluster.gateways import Gateway, events_of, gateway_at, problem_of, write_kubeconfig
from cluster.installation import Installation
from cluster.proxying import KilledError, Proxy, Stage, proxy_before_the_api_server
from cluster.tenant import Tenant
from eventually import eventually

CALCULATE = {"tool": "calculator", "arguments": {"expression": "6*7"}}
COUNT = {"tool": "shell", "arguments": {"command": "for i in 1 2 3; do echo $i; done; echo done >&2"}}
SLEEP = {"tool": "shell", "arguments": {"command": "echo begun; sleep 120"}}
WAIT = {"wait": "120s"}


@pytest.fixture(scope="module")
def start(
    gateway_token: str, warm: Tenant, operator: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Generator[Gateway]]:
    """Return what starts gateways for the namespace with the pool."""

    def begin(proxy: Proxy | None = None, directory: Path | None = None, **more: str) -> Generator[Gateway]:
        place = directory or tmp_path_factory.mktemp("gateway")
        kubeconfig = write_kubeconfig(
            place / "kubeconfig", gateway_token, None if proxy is None else proxy.url
        )
        settings = {"CORRAL_OPERATOR_NAMESPACE": operator.namespace, **more}
        with gateway_at(place, kubeconfig, warm.name, **settings) as gateway:
            yield gateway

    return begin


@pytest.fixture(scope="module")
def gateway(start: Callable[..., Generator[Gateway]]) -> Iterator[Gateway]:
    """Return a gateway."""
    yield from start()


@pytest.fixture(scope="module")
def other_gateway(start: Callable[..., Generator[Gateway]]) -> Iterator[Gateway]:
    """Return another gateway of the same namespace, which shares nothing with the first."""
    yield from start()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Return what stands between a gateway and the API server."""
    with proxy_before_the_api_server() as between:
        yield between


@pytest.fixture
def proxied(proxy: Proxy, start: Callable[..., Generator[Gateway]]) -> Iterator[Gateway]:
    """Return a gateway that reaches the API server through a proxy."""
    yield from start(proxy)


def _uid(answer: httpx.Response) -> str:
    assert answer.status_code in {201, 202}, answer.text
    uid: str = answer.json()["metadata"]["uid"]
    return uid


def test_A1_a_task_runs_in_the_cluster_and_its_result_comes_back(gateway: Gateway, warm: Tenant) -> None:
    with gateway.caller("ann") as client:
        answer = client.post("/v1/tasks", json=CALCULATE, params=WAIT)
        assert answer.status_code == 201, answer.text
        task = answer.json()
        assert (task["status"]["reason"], task["status"]["executions"][0]["result"]) == ("Completed", 42)
        assert task["metadata"]["labels"] == {"corral.dev/caller": "ann"}
        there = warm.api.get("AgentTask", warm.name, task["metadata"]["name"])
        assert there["metadata"]["uid"] == task["metadata"]["uid"]
        assert client.get(answer.headers["location"]).json() == task
        executed = client.post(
            "/tools/execute", json={"tool_name": "calculator", "parameters": {"expression": "42 + 58"}}
        )
        assert executed.json() == {"success": True, "output": 100, "error": None}


def test_B4_a_running_task_is_cancelled(gateway: Gateway, warm: Tenant) -> None:
    with gateway.caller("ann") as client:
        answer = client.post("/v1/tasks", json=SLEEP)
        warm.running(answer.json()["metadata"]["name"])
        assert client.delete(answer.headers["location"]).status_code == 202
        ended = client.get(answer.headers["location"], params=WAIT).json()
        assert ended["status"]["reason"] == "Cancelled"
        assert client.delete(answer.headers["location"]).json()["status"]["reason"] == "Cancelled"


def test_B8_events_have_the_same_numbers_from_every_gateway_and_nothing_comes_twice(
    gateway: Gateway, other_gateway: Gateway
) -> None:
    with gateway.caller("ann") as client, other_gateway.caller("ann") as other:
        where = client.post("/v1/tasks", json=COUNT).headers["location"]
        whole = events_of(client.get(f"{where}/events").text)
        kinds = [kind for _, kind, _ in whole]
        assert (kinds[0], kinds[-2:]) == ("started", ["ended", "finished"])
        for place, (number, _, _) in enumerate(whole):
            rest = events_of(other.get(f"{where}/events", headers={"Last-Event-ID": str(number)}).text)
            for stream, text in (("stdout", "1\n2\n3\n"), ("stderr", "done\n")):
                told = [
                    data["text"]
                    for _, kind, data in (*whole[: place + 1], *rest)
                    if kind == "output" and data["stream"] == stream
                ]
                assert "".join(told) == text
            assert (rest or whole)[-1] == whole[-1]


def test_B8_a_chains_steps_are_told_in_order(gateway: Gateway) -> None:
    chain = {
        "steps": [
            {"name": "one", **CALCULATE},
            {"name": "two", "tool": "shell", "arguments": {"command": "echo two"}},
        ]
    }
    with gateway.caller("ann") as client:
        where = client.post("/v1/tasks", json=chain).headers["location"]
        found = events_of(client.get(f"{where}/events").text)
    assert [(kind, data.get("execution")) for _, kind, data in found] == [
        ("started", "one"),
        ("ended", "one"),
        ("started", "two"),
        ("output", "two"),
        ("ended", "two"),
        ("finished", None),
    ]


def test_M5_anothers_task_is_404_on_every_route(gateway: Gateway, other_gateway: Gateway) -> None:
    with gateway.caller("ann") as mine, other_gateway.caller("bob") as theirs:
        uid = _uid(mine.post("/v1/tasks", json=CALCULATE))
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            assert problem_of(theirs.request(method, f"/v1/tasks/{uid}{path}")) == (404, "TaskNotFound")
        assert uid not in [one["metadata"]["uid"] for one in theirs.get("/v1/tasks").json()["items"]]


def test_M5_a_task_of_kubectls_is_nobodys(gateway: Gateway, warm: Tenant) -> None:
    name = warm.start("calculator", arguments={"expression": "1"})
    task = warm.ended(name)
    with gateway.caller("ann") as client:
        assert problem_of(client.get(f"/v1/tasks/{task['metadata']['uid']}"))[0] == 404


def test_B1_two_gateways_make_one_task_of_one_key(
    gateway: Gateway, other_gateway: Gateway, warm: Tenant
) -> None:
    key = {"Idempotency-Key": "at-once"}
    with gateway.caller("two") as one, other_gateway.caller("two") as other, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda who: who.post("/v1/tasks", json=CALCULATE, headers=key, params=WAIT), [one, other] * 4
            )
        )
        assert len({_uid(answer) for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
        changed = {**CALCULATE, "limits": {"timeout": "5s"}}
        assert problem_of(other.post("/v1/tasks", json=changed, headers=key)) == (409, "IdempotencyKeyUsed")
        own = warm.api.list("AgentTask", warm.name, labelSelector="corral.dev/caller=two")
        assert len(own) == 1


@pytest.mark.parametrize("stage", ["before", "after"])
def test_B1_a_gateway_killed_while_it_makes_a_task_makes_one_in_the_end(
    stage: Stage, proxy: Proxy, proxied: Gateway, other_gateway: Gateway, warm: Tenant
) -> None:
    key, caller = {"Idempotency-Key": f"killed-{stage}"}, f"killed-{stage}"

    def kill(now: Stage) -> None:
        if now == stage:
            proxied.kill()
            raise KilledError

    proxy.on_create = kill
    with proxied.caller(caller) as client, pytest.raises(httpx.TransportError):
        client.post("/v1/tasks", json=CALCULATE, headers=key)
    with other_gateway.caller(caller) as client:
        again = client.post("/v1/tasks", json=CALCULATE, headers=key, params=WAIT)
        assert again.json()["status"]["reason"] == "Completed"
        assert ("idempotency-replayed" in again.headers) is (stage == "after")
    assert len(warm.api.list("AgentTask", warm.name, labelSelector=f"corral.dev/caller={caller}")) == 1


def test_B13_results_arrive_over_watches_that_are_cut_and_nobody_polls(
    proxy: Proxy, proxied: Gateway
) -> None:
    task = {"tool": "shell", "arguments": {"command": "sleep 1.5; echo over"}}
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.3):
            proxy.cut_watches()

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        with proxied.caller("cut") as client, ThreadPoolExecutor(8) as pool:
            ended = list(pool.map(lambda _: client.post("/v1/tasks", json=task, params=WAIT), range(8)))
    finally:
        stop.set()
        cutting.join()
    assert {answer.json()["status"]["reason"] for answer in ended} == {"Completed"}
    reads = [path for method, path in proxy.requests if method == "GET" and "/agenttasks/" in path]
    assert reads == []


def test_B13_while_the_api_server_is_away_tasks_are_refused_and_waiters_wait(
    proxy: Proxy, proxied: Gateway, warm: Tenant
) -> None:
    connected = "corral_gateway_cluster_connected"
    assert f"{connected} 1.0" in httpx.get(proxied.metrics_url).text
    with proxied.caller("away") as client, ThreadPoolExecutor(1) as pool:
        task = {"tool": "shell", "arguments": {"command": "sleep 1"}}
        answer = client.post("/v1/tasks", json=task)
        waits = pool.submit(client.get, answer.headers["location"], params=WAIT)
        proxy.go_away()
        refused = client.post("/v1/tasks", json=CALCULATE)
        assert problem_of(refused) == (503, "ClusterUnavailable")
        assert int(refused.headers["retry-after"]) > 0
        warm.ended(answer.json()["metadata"]["name"])
        assert not waits.done()
        eventually(lambda: f"{connected} 0.0" in httpx.get(proxied.metrics_url).text)
        assert problem_of(client.get("/ready")) == (503, "NotReady")
        proxy.is_away = False
        eventually(lambda: client.get("/ready").status_code == 200)
        assert waits.result().json()["status"]["reason"] == "Completed"


def test_B13_a_restarted_gateway_goes_on_with_the_tasks_there_are(
    start: Callable[..., Generator[Gateway]], tmp_path: Path
) -> None:
    first = start(None, tmp_path)
    gateway = next(first)
    key = gateway.key("again")
    with gateway.http(key) as client:
        where = client.post("/v1/tasks", json=COUNT).headers["location"]
        began = events_of(client.get(f"{where}/events").text)[0]
    gateway.kill()
    first.close()
    for gateway in start(None, tmp_path):
        with gateway.http(key) as client:
            assert client.get(where, params=WAIT).json()["status"]["reason"] == "Completed"
            rest = events_of(client.get(f"{where}/events", headers={"Last-Event-ID": str(began[0])}).text)
            assert [kind for _, kind, _ in rest] == ["output", "output", "ended", "finished"]


def _begun_of(client: httpx.Client, where: str) -> Callable[[], set[str]]:
    """Return what looks up which executions of a task have begun."""
    return lambda: {one["name"] for one in client.get(where).json().get("status", {}).get("executions", [])}


def test_B13_who_waits_at_a_gateway_that_ends_is_told_so_and_goes_on_at_another(
    start: Callable[..., Generator[Gateway]], other_gateway: Gateway
) -> None:
    counts = {"command": "for i in $(seq 20); do echo $i; sleep 0.5; done"}
    steps = [{"tool": "shell", "arguments": {"command": "echo 0"}}, {"tool": "shell", "arguments": counts}]
    task = {"steps": [{"name": f"s{place}", **step} for place, step in enumerate(steps)]}
    call = {"tool_name": "shell", "parameters": counts}
    for ending in start(CORRAL_GRACE_SECONDS="2"):
        with (
            ending.caller("ends") as client,
            other_gateway.caller("ends") as other,
            ThreadPoolExecutor(3) as pool,
        ):
            where = client.post("/v1/tasks", json=task).headers["location"]
            following = pool.submit(client.get, f"{where}/events")
            waiting = pool.submit(client.get, where, params=WAIT)
            calling = pool.submit(client.post, "/tools/execute", json=call)
            eventually(_begun_of(client, where), lambda names: names == {"s0", "s1"}, seconds=60)
            eventually(lambda: len(client.get("/v1/tasks?phase=Running").json()["items"]) == 2, seconds=60)
            ending.process.send_signal(signal.SIGTERM)
            assert waiting.result().json()["status"]["phase"] == "Running"
            assert problem_of(calling.result()) == (503, "HandedOver")
            told = events_of(following.result().text)
            assert "finished" not in {kind for _, kind, _ in told}
            rest = events_of(other.get(f"{where}/events", headers={"Last-Event-ID": str(told[-1][0])}).text)
            text = "".join(data["text"] for _, kind, data in [*told, *rest] if kind == "output")
            assert text == "".join(f"{number}\n" for number in range(21))
            assert (rest[-1][1], rest[-1][2]["reason"]) == ("finished", "Completed")
            ended = other.get(calling.result().headers["location"], params=WAIT).json()
            assert ended["status"]["reason"] == "Completed"
            assert ending.process.wait(timeout=60) == 0


def test_B13_lists_have_stable_pages(gateway: Gateway) -> None:
    with gateway.caller("pages") as client:
        made = {_uid(client.post("/v1/tasks", json=CALCULATE)) for _ in range(5)}
        seen: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = client.get("/v1/tasks", params={"limit": "2", **after}).json()
            seen += [one["metadata"]["uid"] for one in page["items"]]
            if "after" not in page:
                break
            after = {"after": page["after"]}
        assert (len(seen), set(seen)) == (5, made)
        eventually(
            lambda: client.get("/v1/tasks", params={"phase": "Succeeded"}).json()["items"],
            lambda items: len(items) == 5,
            seconds=60,
        )


def test_A2_a_tool_of_the_namespace_is_found_and_runs(gateway: Gateway, warm: Tenant) -> None:
    code = "def main(name): return f'hello {name}'"
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    warm.tool("salute", run={"function": {"code": code}}, inputSchema=schema)
    with gateway.caller("ann") as client:
        eventually(lambda: client.get("/v1/tools/salute").status_code == 200)
        body = {"tool_name": "salute", "parameters": {"name": "ann"}}
        assert client.post("/tools/execute", json=body).json()["output"] == "hello ann"
    # Others compare the answers of this namespace with those of a machine that never had it.
    warm.kubectl("delete", "tool", "salute")


def test_A9_a_quota_that_is_used_up_is_told_at_once(gateway: Gateway, warm: Tenant) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none-left"},
        "spec": {"hard": {"count/agenttasks.corral.dev": "0"}},
    }
    warm.api.create(quota, warm.name)
    try:
        eventually(
            lambda: warm.api.get("ResourceQuota", warm.name, "none-left").get("status", {}).get("hard"),
            seconds=60,
        )
        with gateway.caller("quota") as client:
            refused = client.post("/v1/tasks", json=CALCULATE)
        assert problem_of(refused) == (429, "QuotaExceeded")
        assert int(refused.headers["retry-after"]) > 0
    finally:
        warm.api.delete("ResourceQuota", warm.name, "none-left")


def test_A1_metrics_count_what_kubectl_made_too(gateway: Gateway, warm: Tenant) -> None:
    with gateway.caller("metrics"):
        before = _ended(gateway)
        warm.run("calculator", arguments={"expression": "2"})
        eventually(lambda: _ended(gateway), lambda now: now > before)


def _ended(gateway: Gateway) -> float:
    text = httpx.get(gateway.metrics_url).text
    lines = [line for line in text.splitlines() if line.startswith("agent_core_tasks_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
