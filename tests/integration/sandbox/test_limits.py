"""M2: a tool breaks each limit; the task ends with that limit's own reason, and nobody else notices."""

from collections.abc import Callable
from typing import Any

import pytest

from corral.api import Progress
from integration.sandbox import breakers
from integration.sandbox.canary import Canary
from sandboxes import MIB, Lab, Outcome, function, request, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Small enough to be reached soon.
MEMORY = {"memory_bytes": 96 * MIB}
PROCESSES = {"processes": 20}
DISK = {"disk_bytes": 16 * MIB}
FILE_SIZE = {"file_size_bytes": 2 * MIB}
OUTPUT = {"output_bytes": 200_000}
CPU_TIME = {"cpu_seconds": 1.0}
WALL = {"wall_seconds": 0.3}
IDLE = {"idle_seconds": 0.3}

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
    "wall_time_of_a_tool_that_ignores_signals": (breakers.ignore_everything, WALL, "DeadlineExceeded", "timeout"),
    "idle_time": (breakers.sleep, IDLE, "IdleTimeout", "idleTimeout"),
    "cpu_time": (breakers.burn, CPU_TIME, "CPULimit", "cpuTime"),
    "cpu_time_of_children": (breakers.burn_in_children, CPU_TIME, "CPULimit", "cpuTime"),
    "cpu_time_of_forgotten_children": (breakers.burn_in_forgotten_children, CPU_TIME, "CPULimit", "cpuTime"),
    "cpu_rate_of_a_tool_that_undoes_pauses": (breakers.burn_and_undo_pauses, {"cpu": 0.1}, "CPULimit", "cpu"),
}

SHELL: dict[str, tuple[str, Limits, str, str]] = {
    "memory": ("tail /dev/zero", MEMORY, "OutOfMemory", "memory"),
    "memory_all_at_once": ("python3 -c 'bytearray(1 << 34)'", MEMORY, "OutOfMemory", "memory"),
    "memory_by_mmap": ("python3 -c 'import mmap; mmap.mmap(-1, 1 << 30)'", MEMORY, "OutOfMemory", "memory"),
    "processes": ("while :; do sleep 60 & done; wait", PROCESSES, "ProcessLimit", "processes"),
    "processes_by_fork_bomb": ("b() { sleep 60 & b & b & wait; }; b", PROCESSES, "ProcessLimit", "processes"),
    "disk": ("cat /dev/zero > /tmp/full", {**DISK, "file_size_bytes": 1 << 40}, "DiskLimit", "disk"),
    "disk_by_many_files": (
        "python3 -c 'for n in range(20000): open(f\"/tmp/{n}\", \"w\").close()\nimport time; time.sleep(9)'",
        DISK,
        "DiskLimit",
        "disk",
    ),
    "file_size": ("head -c 9000000 /dev/zero > large", FILE_SIZE, "FileSizeLimit", "fileSize"),
    "file_size_in_python": (
        "python3 -c 'open(\"large\", \"wb\").write(bytes(9000000))'",
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
