"""The proof that NetworkPolicies are enforced, where its runner is none of ours."""

import asyncio
import contextlib
import logging

import pytest

from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.probe import PolicyProbe
from corral_operator.settings import Settings
from eventually import eventually_async
from unit.operator.api_server import ApiServer
from unit.operator.factories import RUNNING, raw_pod
from unit.operator.replica import KEY
from unit.operator.runners import ScriptedRunner


async def test_B13_a_runner_that_does_not_keep_to_the_protocol_ends_the_attempt_and_not_the_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, settings = ApiServer(), Settings()
    maker = PodMaker(settings, KEY)
    async with ScriptedRunner.started() as runner:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(runner.port))
        monkeypatch.setattr("corral_operator.control.probe.RUNNER_PORT", runner.port)
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}, {"type": "stdout", "data": 5}]

        async def before(verb: str, plural: str, name: str) -> None:
            if (verb, plural) == ("get", "pods"):  # the kubelet was fast
                (key,) = [key for key in server.objects if key[0] == "pods"]
                server.objects[key]["status"] = raw_pod(name, state=RUNNING, podIP="127.0.0.1")["status"]
                runner.token = maker.tokens(key[1], name).start

        server.before = before
        results: list[bool | None] = []
        probe = PolicyProbe(server, settings, maker, Namespaces(server, settings), results.append)
        with caplog.at_level(logging.WARNING):
            asking = asyncio.get_running_loop().create_task(probe.run())
            await eventually_async(lambda: asking.done() or "could not be found out" in caplog.text)
            assert not asking.done()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
    assert "FrameError" in caplog.text
    assert (results, server.asked("delete", "pods")) == ([], 1)
