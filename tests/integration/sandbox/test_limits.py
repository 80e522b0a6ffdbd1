"""M2: a tool breaks each limit; the task ends with that limit's own reason, and nobody else notices."""

from collections.abc import Callable
from typing import Any

import pytest

from corral.api import Progress
from integration.sandbox import breakers
from integration.sandbox.canary import Canary
from sandboxes import MIB, Lab, Outcome, request, run_in, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Small enough to be reached soon.
MEMORY = {"memory_bytes": 96 * MIB}
PROCESSES = {"processes": 20}
DISK = {"disk_bytes": 16 * MIB}
FILE_SIZE = {"file_size_bytes": 2 * MIB}
OUTPUT = {"output_bytes": 200_000}
CPU_TIME = {"cpu_seconds": 1.0}
# Long enough for a first line on a machine that is overloaded.
WALL = {"wall_seconds": 1.5}
IDLE = {"idle_seconds": 1.5}

Limits = dict[str, Any]

FUNCTIONS: dict[str, tuple[Callable[..., Any], Limits, str, str]] = {
    "memory_by_one_process": (breakers.grow_step_by_step, MEMORY, "OutOfMemory", "memory"),
    "memory_all_at_once": (breakers.take_all_at_once, MEMORY, "OutOfMemory", "memory"),
    "memory_by_many_processes": (breakers.grow_in_many_processes, MEMORY, "OutOfMemory", "memory"),
    "memory_by_mmap": (breakers.grow_shared_memory, MEMORY, "OutOfMemory", "memory"),
    "memory_that_no_process_maps": (breakers.hide_shared_memory, MEMORY, "OutOfMemory", "memory"),
    "memory_by_page_tables": (breakers.hide_in_page_tables, MEMORY, "OutOfMemory", "memory"),
    "memory_by_sockets": (breakers.hide_in_sockets, MEMORY, "OutOfMemory", "memory"),
    "memory_in_the_grace_after_the_end": (
        breakers.grow_when_asked_to_end,
        {**MEMORY, **WALL},
        "DeadlineExceeded",
        "timeout",
    ),
    "processes_by_fork": (breakers.fork_without_end, PROCESSES, "ProcessLimit", "processes"),
    "processes_by_fork_bomb": (breakers.fork_in_every_generation, PROCESSES, "ProcessLimit", "processes"),
    "processes_by_threads": (breakers.start_threads, PROCESSES, "ProcessLimit", "processes"),
    "processes_by_zombies": (breakers.leave_zombies, PROCESSES, "ProcessLimit", "processes"),
    "disk_in_three_places": (breakers.fill_three_places, DISK, "DiskLimit", "disk"),
    "disk_by_many_files": (breakers.make_many_files, DISK, "DiskLimit", "disk"),
    "file_size": (breakers.write_large_file, FILE_SIZE, "FileSizeLimit", "fileSize"),
    "output": (breakers.print_lines, OUTPUT, "OutputLimit", "output"),
    "output_without_newline": (breakers.print_without_newline, OUTPUT, "OutputLimit", "output"),
    "output_to_standard_error": (breakers.print_to_standard_error, OUTPUT, "OutputLimit", "output"),
    "result": (breakers.return_too_much, {}, "OutputLimit", "result"),
    "wall_time": (breakers.sleep, WALL, "DeadlineExceeded", "timeout"),
    "wall_time_of_a_tool_that_ignores_signals": (
        breakers.ignore_everything,
        WALL,
        "DeadlineExceeded",
        "timeout",
    ),
    "idle_time": (breakers.sleep, IDLE, "IdleTimeout", "idleTimeout"),
    "cpu_time": (breakers.burn, CPU_TIME, "CPULimit", "cpuTime"),
    "cpu_time_of_children": (breakers.burn_in_children, CPU_TIME, "CPULimit", "cpuTime"),
    "cpu_time_of_forgotten_children": (breakers.burn_in_forgotten_children, CPU_TIME, "CPULimit", "cpuTime"),
}

SHELL: dict[str, tuple[str, Limits, str, str]] = {
    "memory": ("tail /dev/zero", MEMORY, "OutOfMemory", "memory"),
    "memory_all_at_once": ("python3 -c 'bytearray(1 << 34)'", MEMORY, "OutOfMemory", "memory"),
    "memory_by_mmap": ("python3 -c 'import mmap; mmap.mmap(-1, 1 << 30)'", MEMORY, "OutOfMemory", "memory"),
    "processes": ("while :; do sleep 60 & done; wait", PROCESSES, "ProcessLimit", "processes"),
    "processes_by_fork_bomb": (
        "while :; do sh -c 'while :; do sleep 60 & done' & done",
        PROCESSES,
        "ProcessLimit",
        "processes",
    ),
    "disk": ("cat /dev/zero > /tmp/full", {**DISK, "file_size_bytes": 1 << 40}, "DiskLimit", "disk"),
    "disk_by_many_files": (
        'python3 -c \'for n in range(20000): open(f"/tmp/{n}", "w").close()\nimport time; time.sleep(60)\'',
        DISK,
        "DiskLimit",
        "disk",
    ),
    "file_size": ("head -c 9000000 /dev/zero > large", FILE_SIZE, "FileSizeLimit", "fileSize"),
    "file_size_in_python": (
        'python3 -c \'open("large", "wb").write(bytes(9000000))\'',
        FILE_SIZE,
        "FileSizeLimit",
        "fileSize",
    ),
    "output": ("yes", OUTPUT, "OutputLimit", "output"),
    "gigabytes_of_output": ("cat /dev/zero", OUTPUT, "OutputLimit", "output"),
    "wall_time": ("sleep 60", WALL, "DeadlineExceeded", "timeout"),
    "wall_time_of_a_shell_that_ignores_signals": (
        "trap '' TERM HUP INT; sleep 60; sleep 60",
        WALL,
        "DeadlineExceeded",
        "timeout",
    ),
    "idle_time": ("sleep 60", IDLE, "IdleTimeout", "idleTimeout"),
    "cpu_time": ("while :; do :; done", CPU_TIME, "CPULimit", "cpuTime"),
}


def expect(ended: Outcome, reason: str, limit: str) -> None:
    assert (ended.reason, ended.limit) == (reason, limit), (ended.status, ended.stderr[-500:])
    assert ended.status.limit is not None
    assert ended.status.limit.enforced_by
    # Whoever noticed first, runner, kernel or the tool itself: the message names the limit.
    assert (ended.status.message or "").startswith(f"the {limit} limit of "), ended.status.message
    assert ended.status.phase == "Failed"
    assert ended.stdout.startswith("before\n")
    assert ended.result is None


@pytest.mark.parametrize("case", FUNCTIONS)
async def test_M2_limit_broken_by_a_function(lab: Lab, canary: Canary, case: str) -> None:
    tool, limits, reason, limit = FUNCTIONS[case]
    async with canary.beside():
        ended = await lab.call(tool, **limits)
    expect(ended, reason, limit)


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "/dev/shm"])
async def test_M2_disk_limit_holds_in_every_place(lab: Lab, canary: Canary, place: str) -> None:
    async with canary.beside():
        ended = await lab.call(breakers.fill_disk, arguments={"directory": place}, **DISK)
    expect(ended, "DiskLimit", "disk")


@pytest.mark.parametrize("case", SHELL)
async def test_M2_limit_broken_by_a_command(lab: Lab, canary: Canary, case: str) -> None:
    script, limits, reason, limit = SHELL[case]
    async with canary.beside():
        ended = await lab.shell(f"echo before\n{script}", **limits)
    expect(ended, reason, limit)


async def test_M2_cpu_rate_is_held_by_pauses(lab: Lab, canary: Canary) -> None:
    # So low a rate that even on a machine that has little time for it a tool gets ahead of it.
    async with canary.beside():
        slow = await lab.call(
            breakers.burn_and_count_pauses, arguments={"seconds": 1.5, "enough": 2}, cpu=0.05
        )
    assert slow.completed() >= 2
    usage = slow.status.usage
    assert usage is not None
    assert usage.cpu_seconds is not None
    assert usage.wall_seconds is not None
    # A burst of 100 ms is free, and the sampler looks every 10 to 20 ms.
    assert usage.cpu_seconds / usage.wall_seconds < 0.4


async def test_M2_cpu_rate_is_held_against_a_tool_that_undoes_pauses(lab: Lab, canary: Canary) -> None:
    """Its timer goes on where the kernel has not dropped the timer's signal together with a pause."""
    async with canary.beside():
        ended = await lab.call(breakers.burn_and_undo_pauses, cpu=0.1, wall_seconds=4.0)
    usage = ended.status.usage
    assert usage is not None
    if ended.reason == "CPULimit":
        assert ended.limit == "cpu"
    else:
        assert (usage.cpu_seconds or 0) < 1.5


async def test_M2_cpu_rate_leaves_a_tool_within_it_alone(lab: Lab) -> None:
    assert (
        await lab.call(breakers.burn_and_count_pauses, arguments={"seconds": 0.4}, cpu=2.0)
    ).completed() == 0


async def test_M2_output_at_the_limit_is_whole_and_beyond_it_is_cut(lab: Lab) -> None:
    at_limit = await lab.shell("head -c 1000 /dev/zero | tr '\\0' x", output_bytes=1000)
    beyond = await lab.shell("head -c 1001 /dev/zero | tr '\\0' x", output_bytes=1000)
    assert (at_limit.reason, len(at_limit.stdout)) == ("Completed", 1000)
    assert (beyond.reason, len(beyond.stdout)) == ("OutputLimit", 1000)
    for ended, truncated in ((at_limit, False), (beyond, True)):
        assert ended.status.output is not None
        assert ended.status.output.truncated is truncated


async def test_M2_result_of_a_json_command_is_limited_too(lab: Lab) -> None:
    ended = await lab.run(request(shell('printf "[\\"%0300000d\\"]" 1', resultFormat="json")))
    assert (ended.reason, ended.limit) == ("OutputLimit", "result")


async def test_M2_files_put_count_against_the_disk_limit(lab: Lab) -> None:
    what = request(shell("echo ran"), disk_bytes=2 * MIB)
    async with lab.sandbox(disk_bytes=2 * MIB) as sandbox:
        await sandbox.put("large", bytes(3 * MIB))
        ended = await run_in(sandbox, what)
    assert (ended.reason, ended.limit, ended.stdout) == ("DiskLimit", "disk", "")


async def test_M2_idle_time_starts_anew_with_output_and_progress(lab: Lab) -> None:
    ended = await lab.shell("for n in $(seq 25); do sleep 0.1; echo $n; done", idle_seconds=2.0)
    assert ended.reason == "Completed"


async def test_M2_a_tool_within_its_limits_completes(lab: Lab) -> None:
    """The limits of the tests above are not so small that everything would break them."""
    tools = [
        shell("python3 -c 'bytearray(20 << 20)'"),
        shell("for n in 1 2 3 4 5 6; do sleep 0.1 & done; wait"),
    ]
    for tool in tools:
        limits: Limits = {**MEMORY, **PROCESSES, **DISK, **FILE_SIZE, **OUTPUT}
        assert (await lab.run(request(tool, **limits))).reason == "Completed"


#: Where the limit is broken and nothing happens, because what should notice is off.
BROKEN: dict[str, tuple[tuple[str, ...], Callable[..., Any], Limits]] = {
    "memory_that_no_process_maps": (("seccomp",), breakers.hide_shared_memory, MEMORY),
    "file_size": (("rlimits",), breakers.write_large_file, FILE_SIZE),
    "processes": (("sampling", "rlimits", "seccomp"), breakers.start_many_and_return, PROCESSES),
    "memory": (("sampling", "rlimits"), breakers.take_much_and_return, MEMORY),
    "cpu_time": (("sampling", "rlimits"), breakers.burn_and_return, {"cpu_seconds": 0.1}),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_M2_limit_is_broken_where_its_layer_is_off(
    cells: Lab, without: Callable[..., Lab], case: str
) -> None:
    layers, tool, limits = BROKEN[case]
    assert (await cells.call(tool, **limits)).limit is not None
    ended = await without(*layers).call(tool, **limits)
    ended.completed()
    assert set(ended.record.weakened) == set(layers)


async def test_M2_cpu_rate_is_not_held_without_the_sampler(without: Callable[..., Lab]) -> None:
    ended = await without("sampling").call(
        breakers.burn_and_count_pauses, arguments={"seconds": 0.5}, cpu=0.25
    )
    assert ended.completed() == 0


async def test_B9_usage_tells_what_was_used(lab: Lab) -> None:
    usage = (await lab.call(breakers.use_something)).status.usage
    assert usage is not None
    assert usage.cpu_seconds is not None
    assert usage.peak_memory_bytes is not None
    assert usage.written_bytes is not None
    assert 0.2 <= usage.cpu_seconds < 5
    assert 50 * MIB <= usage.peak_memory_bytes < 200 * MIB
    assert 3 * MIB <= usage.written_bytes < 4 * MIB
    assert usage.peak_processes == 3
    assert usage.output_bytes == 11


async def test_M2_progress_flood_is_thinned_out(cells: Lab, canary: Canary) -> None:
    """Thousands of reports on the channel itself make some frames, and the newest is among them."""
    async with canary.beside():
        ended = await cells.call(breakers.flood_with_progress, arguments={"reports": 30_000})
    ended.completed()
    seen = [frame for frame in ended.frames if isinstance(frame, Progress)]
    assert 1 <= len(seen) < 500
    assert seen[-1].message == "30000"


async def test_M2_single_characters_are_gathered(cells: Lab, canary: Canary) -> None:
    """Each frame costs more than a character: a dribble of them must not cost a frame each."""
    async with canary.beside():
        ended = await cells.call(breakers.dribble, arguments={"characters": 20_000})
    ended.completed()
    assert ended.stdout == "x" * 20_000
    assert len(ended.frames) < 2000
