"""A sandbox's life: sessions, cancel, the end of a whole tree, and runners that do not answer."""

import os
import signal
import time
import uuid
from typing import Any

import pytest

from corral.api import InputFile, Started
from corral.sandbox import execution
from corral.sandbox.embedded import EmbeddedBackend, EmbeddedSandbox
from corral.sandbox.errors import SandboxLostError
from eventually import eventually_async
from integration.sandbox import breakers
from integration.sandbox.canary import Canary
from integration.sandbox.hosts_view import with_marker
from sandboxes import Lab, function, request, run_in, shell, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")


def marker() -> str:
    """Make a number of seconds that no other process of this machine sleeps for."""
    return f"31536{uuid.uuid4().int % 10**12}"


async def test_cancel_keeps_the_last_words_of_the_whole_tree(lab: Lab) -> None:
    # Whoever waits for a child is woken by the signal itself: the grace is short for starting one program more.
    script = """
        trap 'wait; echo parent; exit' TERM
        sh -c 'trap "echo child; exit" TERM; sleep 60 & echo up; while :; do wait; done' &
        while :; do wait; done
    """
    what = request(shell(script))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "up")
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
    assert (ended.reason, ended.status.phase) == ("Cancelled", "Cancelled")
    assert sorted(ended.stdout.split()) == ["child", "parent", "up"]


async def test_cancel_kills_what_ignores_it(lab: Lab) -> None:
    mark = marker()
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}' & echo up; sleep {mark}; sleep {mark}"
    what = request(shell(script))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "up")
        assert with_marker(mark)
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
        # Dead before the result is written, not only when the sandbox ends.
        assert with_marker(mark) == []
    assert (ended.reason, ended.status.signal) == ("Cancelled", signal.SIGKILL)


async def test_cancel_of_a_stopped_tool_works(lab: Lab) -> None:
    what = request(shell("echo up; kill -STOP $$; echo never"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "up")
        await sandbox.cancel()
        assert (await run_in(sandbox, what)).reason == "Cancelled"


@pytest.mark.parametrize("detach", ["", "setsid "])
async def test_a_daemon_that_holds_the_output_does_not_hold_the_call(lab: Lab, detach: str) -> None:
    mark = marker()
    async with lab.sandbox() as sandbox:
        ended = await run_in(sandbox, request(shell(f"({detach}sh -c 'sleep {mark}' &) ; echo done")))
        assert with_marker(mark) == []
    assert (ended.reason, ended.stdout) == ("Completed", "done\n")
    assert ended.status.usage is not None
    assert (ended.status.usage.wall_seconds or 0) < 10


async def test_a_stuck_runner_is_killed_from_outside(
    lab: Lab, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock outside goes off after half a second, that of the runner not before it is stopped.
    monkeypatch.setattr(execution, "_STUCK_AFTER_SECONDS", -59.5)
    mark = marker()
    what = request(shell(f"echo before; sleep {mark}"), wall_seconds=60.0)
    async with canary.beside(), lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "before")
        signal.pidfd_send_signal(first_process(sandbox), signal.SIGSTOP)
        ended = await run_in(sandbox, what)
        await eventually_async(lambda: with_marker(mark), lambda found: found == [])
    assert (ended.reason, ended.stdout) == ("DeadlineExceeded", "before\n")
    assert "from outside" in (ended.status.message or "")


async def test_a_runner_that_takes_no_files_is_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_TAKING_SECONDS", 0.5)
    async with lab.sandbox() as sandbox:
        async for _ready in sandbox.frames():
            break
        signal.pidfd_send_signal(first_process(sandbox), signal.SIGSTOP)
        what = request(shell("echo never"))
        files = [InputFile(path=f"f{n}", content="x" * 60_000) for n in range(100)]
        record = execution.Record(what.id, "test", 1, execution._now())
        status = await execution.execute(sandbox, what, record, files)
    assert status.reason == "SandboxFailed"


async def test_a_killed_runner_is_a_lost_sandbox_and_no_tool_error(lab: Lab, canary: Canary) -> None:
    mark = marker()
    what = request(shell(f"echo before; sleep {mark}"))
    async with canary.beside(), lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "before")
        signal.pidfd_send_signal(first_process(sandbox), signal.SIGKILL)
        ended = await run_in(sandbox, what)
        await eventually_async(lambda: with_marker(mark), lambda found: found == [])
        with pytest.raises(SandboxLostError):
            await sandbox.get("x")
    assert (ended.reason, ended.stdout) == ("SandboxFailed", "before\n")


async def test_a_killed_nursery_costs_its_sandboxes_and_the_next_is_another(lab: Lab) -> None:
    """What ends is what was in it; whoever comes next gets a sandbox."""
    async with lab.sandbox() as sandbox:
        what = request(shell("echo before; sleep 60"))
        await sandbox.start(what)
        await until_printed(sandbox, "before")
        nursery = kill_bubblewrap(sandbox)
        assert (await run_in(sandbox, what)).reason == "SandboxFailed"
    assert isinstance(lab.backend, EmbeddedBackend)
    waiting = list(lab.backend._waiting)
    if nursery:
        await eventually_async(lambda: all(enclosure.channel.lost for enclosure in waiting))
    assert (await lab.shell("echo again")).stdout == "again\n"


async def test_B16_a_limit_of_one_execution_does_not_follow_into_the_next(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        owner = execution_owner()
        first = await run_in(sandbox, request(function(breakers.burn), cpu_seconds=0.5, owner=owner))
        second = await run_in(
            sandbox, request(function(breakers.write_large_file), owner=owner, file_size_bytes=1 << 20)
        )
        third = await run_in(sandbox, request(shell("cat large | wc -c; echo ok"), owner=owner))
    assert [each.reason for each in (first, second, third)] == ["CPULimit", "FileSizeLimit", "Completed"]
    assert third.stdout.split() == ["1048576", "ok"]
    assert [sum(isinstance(frame, Started) for frame in each.frames) for each in (first, second, third)] == [
        1,
        1,
        1,
    ]
    assert third.status.usage is not None
    assert (third.status.usage.cpu_seconds or 0) < 0.4


async def test_B16_processes_do_not_live_from_one_execution_to_the_next(lab: Lab) -> None:
    mark = marker()
    async with lab.sandbox() as sandbox:
        owner = execution_owner()
        await run_in(sandbox, request(shell(f"setsid sleep {mark} & echo started"), owner=owner))
        ended = await run_in(sandbox, request(shell("ps ax 2>/dev/null || ls /proc"), owner=owner))
    assert mark not in ended.stdout


async def test_the_end_is_not_slowed_by_a_tool_that_stops_itself(
    cells: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_STUCK_AFTER_SECONDS", 90.0)  # nobody else ends it
    began = time.monotonic()
    ended = await cells.shell("kill -STOP $$; echo never", wall_seconds=0.3)
    assert (ended.reason, ended.stdout) == ("DeadlineExceeded", "")
    assert time.monotonic() - began < 30


def execution_owner() -> Any:
    return request(shell("")).owner


def first_process(sandbox: Any) -> int:
    """Return a pidfd of the first process of a sandbox's pid namespace, which is the runner."""
    assert isinstance(sandbox, EmbeddedSandbox)
    enclosure: Any = sandbox._enclosure
    descriptor = enclosure.pidfd if hasattr(enclosure, "pidfd") else enclosure._bubble._first
    assert isinstance(descriptor, int)
    return descriptor


def kill_bubblewrap(sandbox: Any) -> bool:
    """Kill the first process of the bubblewrap that a sandbox is in; whether that was a nursery."""
    parent: Any = sandbox._enclosure
    if hasattr(parent, "_bubble"):
        signal.pidfd_send_signal(parent._bubble._first, signal.SIGKILL)
        return False
    with open(f"/proc/self/fdinfo/{parent.pidfd}", encoding="ascii") as file:
        pid = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        nursery = int(file.read().rpartition(")")[2].split()[1])
    os.kill(nursery, signal.SIGKILL)
    return True
