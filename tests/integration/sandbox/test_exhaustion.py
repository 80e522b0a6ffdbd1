"""A tool takes all it can get of what sandboxes share; its neighbour, the next sandbox and the runner go on."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from corral.sandbox import execution
from integration.sandbox import exhausters
from integration.sandbox.canary import Canary
from sandboxes import MIB, Lab, function, request, run_in, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Those that hold what they have taken.
HOLDERS: dict[str, Callable[..., Any]] = {
    "descriptors": exhausters.open_files,
    "descriptors_of_many_processes": exhausters.open_files_in_many_processes,
    "inotify": exhausters.make_watchers,
    "pipe_buffers": exhausters.fill_pipes,
    "terminals": exhausters.open_terminals,
    "descriptors_on_their_way": exhausters.send_descriptors_on_their_way,
    "timers": exhausters.queue_signals,
    "asynchronous_io": exhausters.ask_for_asynchronous_io,
    "locks": exhausters.lock_many_ranges,
    "abstract_sockets": exhausters.make_sockets_in_the_abstract,
}

#: Those that do something without end.
FLOODERS: dict[str, Callable[..., Any]] = {
    "refused_calls": exhausters.try_the_forbidden,
    "mappings": exhausters.map_without_end,
    "reports": exhausters.talk_to_the_runner_without_end,
    "single_characters": exhausters.print_single_characters_without_end,
    "stops": exhausters.stop_itself,
    "zombies_and_orphans": exhausters.leave_zombies_and_orphans,
    "page_faults": exhausters.touch_and_release,
}


@pytest.mark.parametrize("case", HOLDERS)
async def test_what_one_tool_holds_others_do_not_miss(cells: Lab, canary: Canary, case: str) -> None:
    what = request(function(HOLDERS[case], exhausters.hold), memory_bytes=1 << 30, disk_bytes=64 * MIB)
    async with canary.beside(), cells.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "full")
        # While it is held: the neighbour goes on, and a new sandbox starts and does what the neighbour does.
        async with canary.beside():
            started = await cells.shell("echo works | cat; touch /tmp/x; sleep 0.01")
        assert (started.reason, started.stdout) == ("Completed", "works\n"), started.status
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
    assert ended.reason == "Cancelled", ended.status


def send_a_descriptor() -> int:
    """Return the error number of the attempt."""
    import socket

    ours, _theirs = socket.socketpair()
    try:
        socket.send_fds(ours, [b"x"], [0])
    except OSError as error:
        return error.errno or -1
    return 0


async def test_descriptors_on_their_way_are_the_one_thing_that_neighbours_miss(cells: Lab) -> None:
    """A weakness that is known: the kernel counts them for the user, whatever the namespace.

    That a sandbox starts all the same, as the test above shows, is because nothing of a start is sent under the
    tool's own limit on open files.
    """
    what = request(function(exhausters.send_descriptors_on_their_way, exhausters.hold), memory_bytes=1 << 30)
    assert (await cells.call(send_a_descriptor)).completed() == 0
    async with cells.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "full")
        assert (await cells.call(send_a_descriptor)).completed() == errno.ETOOMANYREFS


@pytest.mark.parametrize("case", FLOODERS)
async def test_a_flood_keeps_nobody_from_the_deadline(
    lab: Lab, canary: Canary, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(execution, "_STUCK_AFTER_SECONDS", 60.0)  # whoever ends it is not the one outside
    what = request(
        function(FLOODERS[case]), wall_seconds=1.0, output_bytes=64 * MIB, processes=64, cpu_seconds=60.0
    )
    async with canary.beside(), lab.sandbox() as sandbox:
        await sandbox.start(what)
        async with canary.beside():
            ended = await run_in(sandbox, what)
    if case == "zombies_and_orphans":
        assert ended.reason in {"ProcessLimit", "DeadlineExceeded"}
    else:
        assert ended.reason == "DeadlineExceeded", ended.status
    # The runner itself ended it, soon after: it was not kept from its clock.
    assert ended.status.usage is not None
    assert (ended.status.usage.wall_seconds or 99) < 20
    assert len(ended.frames) < 2000


@pytest.mark.parametrize("case", FLOODERS)
async def test_a_flood_keeps_nobody_from_cancelling(cells: Lab, case: str) -> None:
    what = request(function(FLOODERS[case]), output_bytes=64 * MIB)
    async with cells.sandbox() as sandbox:
        await sandbox.start(what)
        async for frame in sandbox.frames():
            if frame.execution == what.id:
                break
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
    assert ended.reason in {"Cancelled", "ProcessLimit"}


async def test_a_burst_of_calls_is_queued_and_not_refused(cells: Lab) -> None:
    """More at once than the nursery's socket holds requests."""
    ended = await asyncio.gather(*(cells.shell(f"echo {number}") for number in range(150)))
    assert [each.stdout for each in ended] == [f"{number}\n" for number in range(150)]


async def test_the_machine_s_watches_run_out_where_the_ceiling_is_off(without: Callable[..., Lab]) -> None:
    """What the ceiling protects: one tool's watches are the whole user's, unless its namespace has its own count."""
    ended = await without("ceilings").shell("cat /proc/sys/user/max_inotify_instances")
    assert int(ended.stdout) > 1000
    assert (await without("ceilings").shell("echo ok")).record.weakened == ("ceilings",)
