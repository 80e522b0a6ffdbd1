"""Before a tool gets the network: the cluster's policy is seen to hold, or nothing runs."""

import socket
from typing import Any

import pytest

from eventually import eventually_async
from integration.pod_runner.pod_network import FORBIDDEN_PORT, NEIGHBOUR
from integration.pod_runner.pods import Pod
from integration.pod_runner.test_pod_start import outcome
from integration.sandbox.serving import start_request
from sandboxes import shell

pytestmark = pytest.mark.asyncio(loop_scope="session")


def refused_first(within_seconds: float, port: int = FORBIDDEN_PORT) -> dict[str, Any]:
    refusal = {"host": NEIGHBOUR, "port": port, "withinSeconds": within_seconds}
    return {"network": "open", "refusedFirst": refusal}


def accept_all(listener: socket.socket) -> int:
    """Take what has connected, and close it; returns how many there were."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def let_through(pod: Pod) -> None:
    """Give the queue of the listener room: were it full while this test is slow, that would be a refusal."""
    pod.forbidden.listen(1000)


async def test_M3_a_tool_starts_when_the_policy_refuses() -> None:
    async with Pod.started() as pod:
        pod.forbidden.close()
        result = await outcome(await pod.peer(), shell("echo started"), **refused_first(30))
    assert (result["reason"], result["stdout"]) == ("Completed", "started\n")


async def test_M3_a_tool_waits_for_a_policy_that_comes_late() -> None:
    async with Pod.started() as pod:
        let_through(pod)
        peer = await pod.peer()
        await peer.send(op="follow")
        await peer.send(**start_request(shell("echo started"), **refused_first(100)))
        await eventually_async(lambda: accept_all(pod.forbidden))
        await eventually_async(lambda: accept_all(pod.forbidden))
        await peer.send(op="describe")
        assert [frame["type"] for frame in await peer.until("description")] == ["ready", "description"]
        pod.forbidden.close()
        frames = await peer.until("result")
    assert [frame["type"] for frame in frames] == ["started", "stdout", "result"]
    assert frames[-1]["reason"] == "Completed"


async def test_M3_silence_is_a_refusal() -> None:
    """A listener whose queue is full drops what comes, as a policy may."""
    async with Pod.started() as pod:
        queue = [await pod.knock() for _ in range(2)]
        result = await outcome(await pod.peer(), shell("echo started"), **refused_first(30))
        for each in queue:
            each.close()
    assert (result["reason"], result["stdout"]) == ("Completed", "started\n")


async def test_M3_nothing_runs_in_a_cluster_that_enforces_no_policy() -> None:
    async with Pod.started() as pod:
        let_through(pod)
        peer = await pod.peer()
        await peer.send(op="follow")
        await peer.send(**start_request(shell("echo never > ran"), **refused_first(0.3)))
        seen = await eventually_async(lambda: accept_all(pod.forbidden))
        frames = [await peer.next(), await keep_accepting(pod, peer)]
        assert seen
        result = frames[-1]
        assert (result["reason"], result["execution"]) == ("SandboxFailed", "one")
        assert "does not enforce network policies" in result["message"]
        assert f"{NEIGHBOUR} port {FORBIDDEN_PORT}" in result["message"]
        # The sandbox is as it was: what needs no network may run, and finds that nothing ran.
        assert (await outcome(peer, shell("ls"), "two"))["stdout"] == ""


async def test_M3_a_task_that_waits_for_the_policy_can_be_cancelled() -> None:
    async with Pod.started() as pod:
        let_through(pod)
        peer = await pod.peer()
        await peer.send(op="follow")
        await peer.send(**start_request(shell("echo never"), **refused_first(100)))
        await eventually_async(lambda: accept_all(pod.forbidden))
        await peer.send(**start_request(shell("echo never"), "two"))
        await peer.send(op="cancel")
        frames = await peer.until("result")
    assert [frame["type"] for frame in frames] == ["ready", "error", "result"]
    assert (frames[1]["code"], frames[2]["reason"]) == ("Busy", "Cancelled")


async def keep_accepting(pod: Pod, peer: Any) -> dict[str, Any]:
    """Let every connection through until the runner gives up."""
    import asyncio

    answer = asyncio.ensure_future(peer.next())
    await eventually_async(lambda: (accept_all(pod.forbidden), answer.done())[1])
    frame: dict[str, Any] = await answer
    return frame
