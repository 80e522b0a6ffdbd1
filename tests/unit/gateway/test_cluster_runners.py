"""M5, B8: a gateway reads what a pod's runner says with the token that may only read, and only from that pod."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.api import Frame, Started
from corral.cluster.names import RUNNER_KEY_SECRET
from corral.cluster.port import PODS, SECRETS
from corral.sandbox.errors import ProtocolBrokenError, SandboxLostError
from corral.sandbox.pod.tokens import PodTokens
from corral_gateway.tasks.cluster import runners as module
from corral_gateway.tasks.cluster.runners import Attempt, Runners
from unit.operator.api_server import ApiServer
from unit.operator.runners import RESULT, ScriptedRunner

KEY = bytes(range(32))
TOKENS = PodTokens.of(KEY, "team", "box")
ATTEMPT = Attempt("task-uid", "main", 1, "team", "box")
STARTED = {"type": "started", "pid": 1, "attempt": 1}


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedRunner]:
    async with ScriptedRunner.started() as runner:
        monkeypatch.setattr(module, "RUNNER_PORT", runner.port)
        runner.token = TOKENS.start
        yield runner


@pytest.fixture
def server() -> ApiServer:
    server = ApiServer()
    key = {"key": base64.b64encode(KEY).decode()}
    server.put(SECRETS, {"metadata": {"name": RUNNER_KEY_SECRET, "namespace": "corral"}, "data": key})
    _pod(server)
    return server


def _pod(server: ApiServer, *, label: str = "true", **status: Any) -> None:
    metadata = {"name": "box", "namespace": "team", "labels": {"corral.dev/runner": label}}
    running = {"podIP": "127.0.0.1", "containerStatuses": [{"state": {"running": {}}}]}
    server.put(PODS, {"metadata": metadata, "status": {**running, **status}})


async def _first(server: ApiServer, count: int = 2) -> list[Frame]:
    found = []
    async for frame in Runners(server, "corral").frames(ATTEMPT):
        found.append(frame)
        if len(found) == count:
            break
    return found


async def test_M5_the_gateway_never_shows_the_token_that_may_start(
    runner: ScriptedRunner, server: ApiServer
) -> None:
    runner.executions, runner.owner = ["main"], {"uid": "task-uid/main", "attempt": 1}
    runner.bring(STARTED, RESULT)
    assert [type(frame) for frame in await _first(server)][1] is Started
    assert runner.tokens == [TOKENS.read]
    assert runner.requests == []  # nothing that changes anything


async def test_M5_a_runner_that_cannot_prove_itself_is_told_no_token(
    runner: ScriptedRunner, server: ApiServer
) -> None:
    runner.token = "another pod's"
    with pytest.raises(ProtocolBrokenError, match="not the pod's runner"):
        await _first(server)
    assert runner.tokens == []


async def test_M5_a_sandbox_of_another_task_is_not_read(runner: ScriptedRunner, server: ApiServer) -> None:
    runner.executions, runner.owner = ["main"], {"uid": "other-uid/main", "attempt": 1}
    runner.bring(STARTED)
    with pytest.raises(SandboxLostError, match="another task"):
        await _first(server)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"phase": "Succeeded"}, "has ended"),
        ({"phase": "Failed"}, "has ended"),
        ({"label": "false"}, "has no runner"),
    ],
)
async def test_B8_a_pod_without_a_runner_that_listens_is_not_waited_for(
    server: ApiServer, change: dict[str, str], why: str
) -> None:
    _pod(server, **change)
    with pytest.raises(SandboxLostError, match=why):
        await _first(server)


async def test_B8_without_a_key_nothing_is_read(server: ApiServer) -> None:
    server.remove(SECRETS, "corral", RUNNER_KEY_SECRET)
    with pytest.raises(SandboxLostError):
        await _first(server)
    server.put(SECRETS, {"metadata": {"name": RUNNER_KEY_SECRET, "namespace": "corral"}, "data": {}})
    with pytest.raises(SandboxLostError, match="no usable key"):
        await _first(server)


async def test_B8_a_runner_that_nobody_reaches_is_lost(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNER_PORT", 1)
    with pytest.raises(SandboxLostError, match="cannot be reached"):
        await _first(server)
