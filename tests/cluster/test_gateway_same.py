"""A1: the same requests give the same answers, whichever executor stands behind the gateway."""

import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from cluster.gateways import Gateway, events_of, gateway_at, problem_of, write_kubeconfig
from cluster.tenant import Tenant
from eventually import eventually

CALCULATE = {"tool": "calculator", "arguments": {"expression": "6*7"}}
SLEEP = {"tool": "shell", "arguments": {"command": "echo begun; sleep 120"}}
WAIT = {"wait": "120s"}
Scenario = Callable[[httpx.Client], Any]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway with sandboxes on this machine."""
    place = tmp_path_factory.mktemp("embedded")
    with gateway_at(place, place / "none", "none", CORRAL_EXECUTOR="embedded") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def clustered(
    gateway_token: str, warm: Tenant, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Return a gateway in front of the operator."""
    place = tmp_path_factory.mktemp("clustered")
    kubeconfig = write_kubeconfig(place / "kubeconfig", gateway_token)
    with gateway_at(place, kubeconfig, warm.name) as gateway:
        yield gateway


def _answer(answer: httpx.Response) -> dict[str, Any]:
    """Return what of an answer is the same each time it is given."""
    kept = ("content-type", "idempotency-replayed", "www-authenticate", "preference-applied")
    told: dict[str, Any] = {"status": answer.status_code}
    told |= {name: answer.headers[name] for name in kept if name in answer.headers}
    if "location" in answer.headers:
        told["location"] = answer.headers["location"].rpartition("/")[0]
    body = answer.json()
    match body.get("kind") if isinstance(body, dict) else None:
        case "AgentTask":
            told["body"] = _task(body)
        case "Tool":
            told["body"] = _tool(body)
        case _:
            told["body"] = _plain(body)
    return told


def _plain(body: Any) -> Any:
    """Leave out ids: no two requests share them."""
    if isinstance(body, dict):
        return {key: _plain(one) for key, one in body.items() if key not in {"requestId", "instance"}}
    return body


def _tool(body: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an API server adds to an object."""
    added = ("namespace", "uid", "resourceVersion", "creationTimestamp", "generation")
    kept = {name: value for name, value in body["metadata"].items() if name not in added}
    return {**body, "metadata": kept}


def _task(body: dict[str, Any]) -> dict[str, Any]:
    status = body.get("status") or {}
    if not status.get("reason"):
        return {"spec": body["spec"], "labels": body["metadata"]["labels"]}
    fields = (
        "name",
        "tool",
        "attempt",
        "phase",
        "reason",
        "message",
        "exitCode",
        "output",
        "result",
        "limit",
    )
    # What ran printed something, even if it is nothing; what did not run, printed nothing.
    none = {"output": {"stdout": "", "stderr": "", "truncated": False}}
    executions = [
        none
        | {field: one[field] for field in fields if field in one}
        | {"error": (one.get("error") or {}).get("type")}
        for one in status.get("executions", ())
    ]
    return {
        "spec": body["spec"],
        "labels": body["metadata"]["labels"],
        "phase": status["phase"],
        "reason": status["reason"],
        "executions": executions,
    }


def _run(spec: dict[str, Any]) -> Scenario:
    return lambda client: _answer(client.post("/v1/tasks", json=spec, params=WAIT))


def _shell(command: str, **spec: Any) -> Scenario:
    return _run({"tool": "shell", "arguments": {"command": command}, **spec})


def _execute(tool: str, **parameters: Any) -> Scenario:
    body = {"tool_name": tool, "parameters": parameters}
    return lambda client: _answer(client.post("/tools/execute", json=body))


def _unknown(method: str, path: str = "") -> Scenario:
    def ask(client: httpx.Client) -> Any:
        answer = _answer(client.request(method, f"/v1/tasks/5f4b9d0e-0000-4000-8000-000000000000{path}"))
        odd = _answer(client.request(method, f"/v1/tasks/no-id{path}"))
        return answer, odd

    return ask


def _keyed(client: httpx.Client) -> Any:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    asked = {**CALCULATE, "limits": {"timeout": "20s"}}
    answers = [_answer(client.post("/v1/tasks", json=asked, headers=key, params=WAIT)) for _ in range(2)]
    answers.append(_answer(client.post("/v1/tasks", json=CALCULATE, headers=key)))
    for answer in answers:
        answer["body"].get("spec", {}).pop("idempotencyKey", None)
    return answers


def _events(client: httpx.Client) -> Any:
    command = "echo one; echo two >&2; echo three; exit 3"
    spec = {"tool": "shell", "arguments": {"command": command}}
    where = client.post("/v1/tasks", json=spec).headers["location"]
    found = events_of(client.get(f"{where}/events").text)
    assert [number for number, _, _ in found] == sorted({number for number, _, _ in found})
    told = {
        stream: "".join(
            data["text"] for _, kind, data in found if kind == "output" and data["stream"] == stream
        )
        for stream in ("stdout", "stderr")
    }
    return told, [(kind, data) for _, kind, data in found if kind != "output"]


def _cancelled(client: httpx.Client) -> Any:
    where = client.post("/v1/tasks", json=SLEEP).headers["location"]
    eventually(
        lambda: client.get(where).json().get("status", {}).get("phase"),
        lambda at: at == "Running",
        seconds=60,
    )
    assert client.delete(where).status_code == 202
    ended = _answer(client.get(where, params=WAIT))["body"]
    again = _answer(client.delete(where))
    return ended["phase"], ended["reason"], again["status"], again["body"]["reason"]


def _listed(client: httpx.Client) -> Any:
    for spec in (CALCULATE, {"tool": "calculator", "arguments": {"expression": "1/0"}}):
        client.post("/v1/tasks", json=spec, params=WAIT)

    def names(**wanted: str) -> list[str]:
        answer = client.get("/v1/tasks", params=wanted)
        assert answer.status_code == 200, answer.text
        return sorted(one["status"]["reason"] for one in answer.json()["items"])

    return (
        names(),
        names(reason="Completed"),
        names(phase="Failed"),
        names(tool="shell"),
        _answer(client.get("/v1/tasks", params={"after": "junk"})),
        _answer(client.get("/v1/tasks", params={"limit": "0"})),
    )


_CHAIN = {
    "steps": [
        {"name": "one", **CALCULATE},
        {"name": "two", "tool": "calculator", "arguments": {"expression": "$(steps.one.result) + 1"}},
    ]
}
_BROKEN_CHAIN = {
    "steps": [
        {"name": "one", "tool": "shell", "arguments": {"command": "exit 4"}},
        {"name": "two", **CALCULATE},
    ]
}
SCENARIOS: dict[str, Scenario] = {
    "a result": _run(CALCULATE),
    "a tool's error": _run({"tool": "calculator", "arguments": {"expression": "1/0"}}),
    "output and exit code": _shell("echo out; echo err >&2; exit 3"),
    "a deadline": _shell("sleep 60", limits={"timeout": "1s"}),
    "an unknown tool": _run({"tool": "no-such-tool"}),
    "wrong arguments": _run({"tool": "calculator", "arguments": {"expresion": "1"}}),
    "a chain": _run(_CHAIN),
    "a chain that breaks": _run(_BROKEN_CHAIN),
    "a directory of the host": _shell("ls", workspace={"hostPath": "/"}),
    "no spec": _run({}),
    "a wrong field": _run({**CALCULATE, "limits": {"memory": "much"}}),
    "a manifest of another kind": _run({"apiVersion": "corral.dev/v1alpha1", "kind": "Tool", "spec": {}}),
    "a wrong wait": lambda client: _answer(client.post("/v1/tasks?wait=1h", json=CALCULATE)),
    "keys": _keyed,
    "events": _events,
    "cancel": _cancelled,
    "lists": _listed,
    "no such task": _unknown("GET"),
    "no such task's events": _unknown("GET", "/events"),
    "no such task to cancel": _unknown("DELETE"),
    "execute": _execute("calculator", expression="42 + 58"),
    "execute what fails": _execute("calculator", expression="1/0"),
    "execute what is not there": _execute("no-such-tool"),
    "execute with wrong arguments": _execute("calculator", expresion="1"),
    "a tool": lambda client: _answer(client.get("/v1/tools/calculator")),
    "no such tool": lambda client: _answer(client.get("/v1/tools/no-such-tool")),
    "names of tools": lambda client: sorted(client.get("/tools/list").json())[:5],
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_A1_the_same_request_gives_the_same_answer(name: str, embedded: Gateway, clustered: Gateway) -> None:
    caller = f"same-{uuid.uuid4().hex[:8]}"
    with embedded.caller(caller) as here, clustered.caller(caller) as there:
        assert SCENARIOS[name](there) == SCENARIOS[name](here)


def _manifest(name: str, code: str, **spec: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}}
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": name, "labels": {"team": "blue"}},
        "spec": {
            "description": "Greet somebody.",
            "inputSchema": schema,
            "run": {"function": {"code": code}},
            **spec,
        },
    }


def _registers(client: httpx.Client) -> Any:
    """Register, use, replace, use again and take out a tool; each step right behind the one before."""
    greet = _manifest("greet_them", "def main(name='you'): return f'Hello, {name}'")
    loud = _manifest("greet_them", "def main(name='you'): return name.upper()")
    answers = [
        client.post("/v1/tools", json=greet),
        client.post("/v1/tools", json=greet),
        client.get("/v1/tools/greet-them"),
        client.post("/tools/execute", json={"tool_name": "greet_them", "parameters": {"name": "Ann"}}),
        client.post("/tools/execute", json={"tool_name": "greet_them", "parameters": {"name": 7}}),
        client.put("/v1/tools/greet_them", json=loud),
        client.post("/tools/execute", json={"tool_name": "greet-them", "parameters": {"name": "Ann"}}),
        client.put("/v1/tools/second", json=_manifest("second", "def main(): return 2")),
        client.post("/v1/tasks", json={"tool": "second"}, params=WAIT),
    ]
    told = [_answer(answer) for answer in answers]
    deleted = [client.delete(f"/v1/tools/{name}") for name in ("greet_them", "second")]
    assert [answer.status_code for answer in deleted] == [HTTPStatus.NO_CONTENT] * 2
    told += [_answer(client.delete("/v1/tools/second")), _answer(client.get("/v1/tools/greet_them"))]
    told.append(_answer(client.post("/tools/execute", json={"tool_name": "second", "parameters": {}})))
    history = client.get("/v1/tools/greet_them/history").json()["items"]
    return told, [(one["caller"], one["tool"]) for one in history]


def _registers_wrongly(client: httpx.Client) -> Any:
    fine = _manifest("mine", "def main(): return 1")
    return [
        _answer(client.put("/v1/tools/mine", json=body))
        for body in (
            {},
            {**fine, "kind": "AgentTask"},
            {**fine, "metadata": {}},
            _manifest("other", "def main(): return 1"),
            _manifest("mine", "x", inputSchema={"type": "array"}),
            _manifest("mine", "x", permissions=["all"]),
            _manifest("mine", "x", run={}),
        )
    ] + [
        _answer(client.put("/v1/tools/shell", json=_manifest("shell", "def main(): return 1"))),
        _answer(client.delete("/v1/tools/read_file")),
        _answer(client.delete("/v1/tools/never")),
        _answer(client.get("/v1/tools/never/history")),
    ]


@pytest.mark.parametrize("scenario", [_registers, _registers_wrongly])
def test_S6_tools_are_registered_with_the_same_answers(
    scenario: Scenario, embedded: Gateway, clustered: Gateway
) -> None:
    caller = f"same-{uuid.uuid4().hex[:8]}"
    with (
        embedded.http(embedded.key(caller, "tool-admin")) as here,
        clustered.http(clustered.key(caller, "tool-admin")) as there,
    ):
        assert scenario(there) == scenario(here)


def test_S6_who_replaces_a_tool_and_calls_it_at_once_calls_the_new_one(clustered: Gateway) -> None:
    name = f"new-{uuid.uuid4().hex[:8]}"
    results = []
    with clustered.http(clustered.key(name, "tool-admin")) as client:
        for number in range(10):
            manifest = _manifest(name, f"def main(): return {number}")
            assert client.put(f"/v1/tools/{name}", json=manifest).status_code < HTTPStatus.BAD_REQUEST
            answer = client.post("/tools/execute", json={"tool_name": name, "parameters": {}})
            results.append(answer.json().get("output"))
        client.delete(f"/v1/tools/{name}")
    assert results == list(range(10))


def test_S6_a_runner_registers_no_tool_anywhere(embedded: Gateway, clustered: Gateway) -> None:
    caller = f"same-{uuid.uuid4().hex[:8]}"
    manifest = _manifest("mine", "def main(): return 1")
    with embedded.caller(caller) as here, clustered.caller(caller) as there:
        answers = [_answer(client.post("/v1/tools", json=manifest)) for client in (here, there)]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == HTTPStatus.FORBIDDEN


def test_M5_a_tool_of_kubectl_is_used_by_all_and_changed_by_admins_alone(
    clustered: Gateway, warm: Tenant
) -> None:
    warm.tool("theirs", run={"function": {"code": "def main(): return 1"}})
    manifest = _manifest("theirs", "def main(): return 2")
    with (
        clustered.http(clustered.key("somebody", "tool-admin")) as caller,
        clustered.http(clustered.key("the-admin", "admin")) as admin,
    ):
        eventually(lambda: caller.get("/v1/tools/theirs").status_code, lambda status: status == HTTPStatus.OK)
        for refused in (
            caller.put("/v1/tools/theirs", json=manifest),
            caller.delete("/v1/tools/theirs"),
        ):
            assert problem_of(refused) == (HTTPStatus.CONFLICT, "ToolManagedElsewhere")
        body = {"tool_name": "theirs", "parameters": {}}
        assert caller.post("/tools/execute", json=body).json()["output"] == 1
        assert admin.put("/v1/tools/theirs", json=manifest).status_code == HTTPStatus.OK
        assert caller.post("/tools/execute", json=body).json()["output"] == 2
        stale = {**manifest, "metadata": {"name": "theirs", "resourceVersion": "1"}}
        assert problem_of(admin.put("/v1/tools/theirs", json=stale)) == (HTTPStatus.CONFLICT, "ToolChanged")
        assert admin.delete("/v1/tools/theirs").status_code == HTTPStatus.NO_CONTENT
