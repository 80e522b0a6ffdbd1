"""How a pod's runner ends, what it says of itself meanwhile, and that nothing of it is left when nobody comes."""

import asyncio
import time
from typing import Any

import pytest

from eventually import eventually_async
from integration.pod_runner.pods import Container, Pod
from integration.pod_runner.test_pod_start import outcome
from integration.sandbox.serving import start_request
from sandboxes import function, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def exit_status(pod: Pod) -> int | None:
    return await eventually_async(lambda: pod.ended, lambda status: status is not None)


async def test_M4_a_waiting_runner_ends_at_once_when_its_pod_is_deleted() -> None:
    async with Pod.started() as pod:
        peer = await pod.peer()
        await peer.send(op="follow")
        await peer.until("ready")
        began = time.monotonic()
        pod.terminate()
        assert await exit_status(pod) == 0
        assert time.monotonic() - began < 20


async def test_M4_a_released_runner_ends_with_what_it_runs() -> None:
    async with Pod.started() as pod:
        peer = await pod.peer()
        await peer.send(**start_request(shell("trap '' TERM; sleep 60; sleep 60")))
        await peer.send(op="release")
        assert await exit_status(pod) == 0


async def test_B2_a_deleted_pod_tells_its_readers_how_its_task_ended() -> None:
    async with Pod.started() as pod:
        owner, reader = await pod.peer(), await pod.reader()
        for peer in (owner, reader):
            await peer.send(op="follow")
        await owner.send(
            # Whoever waits for a child is woken by the signal itself: the grace is short for starting one more.
            **start_request(
                shell("trap 'echo last words; exit' TERM; sleep 60 & echo up; while :; do wait; done")
            )
        )
        await owner.until("stdout")
        pod.terminate()
        frames = await reader.until("result")
        assert await reader.is_dropped()
        assert await exit_status(pod) == 0
    assert (frames[-1]["reason"], frames[-1]["message"]) == ("Cancelled", "the sandbox is being taken away")
    printed = "".join(frame.get("data", "") for frame in frames).splitlines()
    # Some shells say beside the two that their child was terminated.
    assert printed[0] == "up"
    assert "last words" in printed


async def test_B2_a_deleted_pod_waits_for_no_reader_that_does_not_read() -> None:
    async with Pod.started() as pod:
        owner, reader = await pod.peer(), await pod.reader()
        await reader.send(op="follow")
        limits = {"outputBytes": 32 << 20}
        # More than the buffers of a connection hold: asyncio stops reading when nobody takes.
        reader.reader._limit = 1  # type: ignore[attr-defined]
        await owner.send(
            **start_request(shell("yes | head -c 20000000; echo up >&2; sleep 60"), limits=limits)
        )
        await owner.send(op="follow")
        await owner.until("stderr")
        pod.terminate()
        assert (await owner.until("result"))[-1]["reason"] == "Cancelled"
        assert await exit_status(pod) == 0


async def test_B2_a_tool_cannot_pretend_that_its_pod_is_deleted() -> None:
    """Without Landlock's scopes (Linux 6.12) a tool may signal the runner."""
    async with Pod.started(Container(refuses=["no-landlock"])) as pod:
        peer = await pod.peer()
        result = await outcome(peer, shell("kill -TERM 1 && sleep 0.3; echo still here"))
        assert (result["reason"], result["stdout"]) == ("Completed", "still here\n")
        assert (await outcome(peer, shell("echo and now"), "two"))["stdout"] == "and now\n"


async def test_B13_a_runner_that_nobody_releases_ends_by_itself() -> None:
    async with Pod.started(Container({"lingerSeconds": 0.5})) as pod:
        peer = await pod.peer()
        assert (await outcome(peer, shell("echo done")))["reason"] == "Completed"
        await peer.close()
        assert await exit_status(pod) == 0


async def test_B13_a_runner_whose_owner_speaks_does_not_end_by_itself() -> None:
    async with Pod.started(Container({"lingerSeconds": 3})) as pod:
        peer = await pod.peer()
        await outcome(peer, shell("echo one"))
        ended = asyncio.get_running_loop().time() + 4.5
        while asyncio.get_running_loop().time() < ended:
            await peer.send(op="cancel")
            await asyncio.sleep(0.1)
        assert pod.ended is None
        assert await exit_status(pod) == 0


async def test_B13_an_execution_is_not_ended_by_the_time_a_runner_lingers() -> None:
    async with Pod.started(Container({"lingerSeconds": 0.2, "maximumIdleSeconds": 30})) as pod:
        peer = await pod.peer()
        assert (await outcome(peer, shell("sleep 0.8; echo done")))["stdout"] == "done\n"


async def test_M4_a_waiting_runner_ends_after_the_time_it_may_wait() -> None:
    async with Pod.started(Container({"maximumIdleSeconds": 0.5, "lingerSeconds": 900})) as pod:
        assert await exit_status(pod) == 0


async def test_B13_a_pod_says_whose_it_is_and_what_it_ran() -> None:
    async with Pod.started() as pod:
        owner, reader = await pod.peer(), await pod.reader()
        seen: list[dict[str, Any]] = []

        async def look() -> None:
            await reader.send(op="describe")
            seen.append(await reader.next())

        await look()
        await owner.send(op="follow")
        await owner.send(**start_request(shell("echo up; sleep 60"), "first", uid="uid-7"))
        await owner.until("stdout")
        await look()
        await owner.send(op="cancel")
        await owner.until("result")
        await owner.send(**start_request(shell("echo"), "second", uid="uid-7"))
        await owner.until("result", execution="second")
        await look()
    whose = {"uid": "uid-7", "attempt": 1}
    always = {"type": "description", "retired": False}
    assert seen == [
        {**always, "owner": None, "executions": [], "running": False},
        {**always, "owner": whose, "executions": ["first"], "running": True},
        {**always, "owner": whose, "executions": ["first", "second"], "running": False},
    ]


async def test_B13_a_pod_that_serves_nobody_retires_and_one_that_serves_somebody_goes_on() -> None:
    async with Pod.started() as pod:
        reader, owner = await pod.reader(), await pod.peer()
        await reader.send(op="retire")
        assert (await reader.next())["code"] == "Forbidden"
        await owner.send(op="retire")
        assert (await owner.next())["retired"] is True
        await owner.send(**start_request(shell("echo up")))
        assert (await owner.next())["code"] == "OwnedByAnother"
    async with Pod.started() as pod:
        owner, other = await pod.peer(), await pod.peer()
        await owner.send(op="follow")
        await owner.send(**start_request(shell("sleep 0.3; echo up"), uid="uid-7"))
        await owner.until("started")
        await other.send(op="retire")
        said = await other.next()
        assert (said["owner"], said["retired"]) == ({"uid": "uid-7", "attempt": 1}, False)
        assert (await owner.until("result"))[-1]["reason"] == "Completed"


async def test_B13_whoever_comes_after_a_crash_reads_everything() -> None:
    def work() -> int:
        print("worked")
        return 42

    async with Pod.started() as pod:
        first = await pod.peer()
        await first.send(**start_request(function(work)))
        first.writer.transport.abort()
        second = await pod.peer()
        await second.send(op="follow")
        frames = await second.until("result")
        assert [frame["type"] for frame in frames] == ["ready", "started", "stdout", "result"]
        assert frames[-1]["result"] == 42
        # The same start again, as an operator sends that does not know whether its first one came.
        await second.send(**start_request(function(work)))
        await second.send(op="describe")
        assert (await second.next())["executions"] == ["one"]
