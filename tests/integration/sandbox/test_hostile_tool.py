"""A tool that lies on the channel to its runner lies about itself alone: never is the sandbox blamed, or another task.

``SandboxFailed`` matters most: it may be retried, so a tool that could bring it about could run twice.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.api import MAX_JSON_DEPTH, json_problem
from integration.sandbox.canary import Canary
from sandboxes import Lab, request, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: What only the runner or the backend may say.
NOT_THE_TOOL_S_TO_SAY = {
    *(
        "SandboxFailed",
        "Cancelled",
        "DeadlineExceeded",
        "IdleTimeout",
        "CPULimit",
        "NetworkDenied",
        "Evicted",
    ),
    *(
        "NodeLost",
        "QuotaExceeded",
        "ImagePullFailed",
        "Unsupported",
        "InvalidSpec",
        "ToolNotFound",
        "StepFailed",
    ),
}


def say(lines: list[str], status: int) -> None:
    """Write to the report channel itself, and end without another word."""
    import os

    for line in lines:
        os.write(3, line.encode("utf-8", "surrogatepass") + b"\n")
    os._exit(status)


LIES: dict[str, str] = {
    "infinite_result": '{"type":"result","result":1e999}',
    "nan_result": '{"type":"result","result":NaN}',
    "surrogate_result": '{"type":"result","result":"\\ud800"}',
    "raw_surrogate": '{"type":"result","result":"\ud800"}',
    "huge_number": '{"type":"result","result":%s}' % ("9" * 4000),
    "too_deep": '{"type":"result","result":%s}' % ("[" * 65 + "]" * 65),
    "much_too_deep": '{"type":"result","result":%s}' % ("[" * 900 + "]" * 900),
    "endlessly_deep": '{"type":"result","result":%s' % ("[" * 30_000),
    "large_result": '{"type":"result","result":"%s"}' % ("x" * 262_144),
    "too_large_result": '{"type":"result","result":"%s"}' % ("x" * 300_000),
    "control_character": '{"type":"\0"}',
    "reason_list": '{"type":"error","reason":[]}',
    "reason_object": '{"type":"error","reason":{"a":1},"message":{"b":2}}',
    "error_fields": '{"type":"error","reason":"ToolError","message":[[]],"field":{},"rule":7,"cause":[]}',
    "error_details": '{"type":"error","reason":"ToolError","message":"x","details":1e999}',
    "error_long": '{"type":"error","reason":"ToolError","message":"%s"}' % ("\\u00e9" * 40_000),
    "progress_fields": '{"type":"progress","fraction":{},"message":[[[]]]}',
    "progress_huge": '{"type":"progress","fraction":%s}' % ("9" * 4000),
    "progress_infinite": '{"type":"progress","fraction":1e999,"message":"\\ud800"}',
    "second_ready": '{"type":"ready","listener":true}',
    **{
        f"reason_{reason}": json.dumps({"type": "error", "reason": reason})
        for reason in sorted(NOT_THE_TOOL_S_TO_SAY)
    },
}


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("case", LIES)
async def test_no_lie_blames_the_sandbox(cells: Lab, case: str, status: int) -> None:
    ended = await cells.call(say, arguments={"lines": [LIES[case]], "status": status})
    assert ended.reason not in NOT_THE_TOOL_S_TO_SAY, ended.status
    assert ended.status.exit_code == status or ended.limit is not None
    assert json_problem(json.loads(ended.status.model_dump_json())) is None
    if status:
        assert ended.reason != "Completed"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
FIELDS = ("result", "reason", "message", "fraction", "field", "rule", "details", "errorType", "listener")
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["ready", "progress", "result", "error", "file", "started", 3, None])},
    optional=dict.fromkeys(FIELDS, json_values),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(
        messages.map(json.dumps) | st.text(max_size=50).filter(lambda text: "\n" not in text), max_size=4
    )
)
async def test_whatever_a_tool_says_its_sandbox_is_not_to_blame(cells: Lab, lines: list[str]) -> None:
    ended = await cells.call(say, arguments={"lines": [ascii(line)[1:-1] for line in lines], "status": 0})
    assert ended.reason not in NOT_THE_TOOL_S_TO_SAY, ended.status
    assert json_problem(json.loads(ended.status.model_dump_json())) is None


async def test_a_result_as_deep_as_all_can_carry_is_carried(cells: Lab) -> None:
    value = "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH
    line = '{"type":"result","result":' + value + "}"
    ended = await cells.call(say, arguments={"lines": [line], "status": 0})
    assert json.dumps(ended.completed()) == value


async def test_file_names_that_are_no_text_are_told_and_not_sent(cells: Lab) -> None:
    script = "touch fine; touch \"$(printf 'bad\\377name')\"; mkfifo pipe; ln -s /etc/passwd link"
    ended = await cells.run(request(shell(script), outputs=("*",)))
    ended.completed()
    assert set(ended.record.files) == {"fine"}


async def test_thousands_of_outputs_are_not_too_many_for_a_result(cells: Lab) -> None:
    script = 'python3 -c \'for n in range(3000): open(f"{n:0200}", "w").close()\''
    ended = await cells.run(request(shell(script), outputs=("*",)))
    ended.completed()
    assert len(ended.record.files) == 1000


def share_a_terminal() -> None:
    """Wait at a terminal of one's own, where a neighbour may come by."""
    import os
    import pty
    import time

    ours, _theirs = pty.openpty()
    print(f"terminal {os.ttyname(_theirs)}", flush=True)
    time.sleep(60)
    os.close(ours)


def list_terminals() -> list[str]:
    import os

    return sorted(os.listdir("/dev/pts"))


async def test_terminals_of_one_cell_are_not_in_another(cells: Lab, without: Callable[..., Lab]) -> None:
    from sandboxes import function, until_printed

    for lab, seen in ((cells, ["ptmx"]), (without("namespaces", "ceilings"), ["0", "ptmx"])):
        async with lab.sandbox() as sandbox:
            await sandbox.start(request(function(share_a_terminal)))
            await until_printed(sandbox, "terminal /dev/pts/0")
            assert (await lab.call(list_terminals)).completed() == seen


def map_devices() -> list[str]:
    """Try the ways to memory that no account shows."""
    import mmap
    import os

    got = []
    for way in ("zero", "zero-shared-read", "huge", "new-device-file", "device-node"):
        try:
            if way == "zero":
                descriptor = os.open("/dev/zero", os.O_RDWR)
                mmap.mmap(descriptor, 4096)
            elif way == "zero-shared-read":
                descriptor = os.open("/dev/zero", os.O_RDONLY)
                mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)
                continue  # which the kernel makes a private one
            elif way == "huge":
                mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
            elif way == "new-device-file":
                os.close(os.open("/dev/new", os.O_CREAT | os.O_WRONLY))
            else:
                os.mknod("/tmp/memory", 0o20666, os.makedev(1, 1))
            got.append(way)
        except OSError:
            pass
    return got


async def test_devices_give_no_memory_that_nobody_counts(lab: Lab, without: Callable[..., Lab]) -> None:
    assert (await lab.call(map_devices)).completed() == []
    assert (await without("landlock").call(map_devices)).completed() == ["zero"]


def call_as_32_bit() -> None:
    """Make a system call of another architecture: int 0x80, getpid."""
    import ctypes
    import mmap

    code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(b"\xb8\x14\0\0\0\xcd\x80\xc3")  # mov $20, %eax; int $0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    print(ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0, flush=True)


@pytest.mark.skipif(__import__("os").uname().machine != "x86_64", reason="int 0x80 is of x86")
async def test_calls_of_another_architecture_kill(lab: Lab, without: Callable[..., Lab]) -> None:
    ended = await lab.call(call_as_32_bit)
    assert (ended.reason, ended.status.signal, ended.stdout) == ("ToolError", 31, "")
    assert (await without("seccomp").call(call_as_32_bit)).stdout == "True\n"


def set_priorities() -> list[str]:
    """Try to take precedence over the neighbours."""
    import os
    import resource

    def write(path: str, text: str) -> None:
        with open(path, "w") as file:
            file.write(text)

    got = []
    attempts: dict[str, Callable[[], Any]] = {
        "real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "more files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (10_000, 10_000)),
        "more processes": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10_000, 10_000)),
        "more data": lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40)),
        "core": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)),
        "oom": lambda: write("/proc/self/oom_score_adj", "-1000"),
        "namespaces": lambda: write("/proc/sys/user/max_user_namespaces", "9"),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            got.append(name)
        except (OSError, ValueError):
            pass
    return got


async def test_a_tool_cannot_raise_what_it_was_given(lab: Lab, canary: Canary) -> None:
    async with canary.beside():
        assert (await lab.call(set_priorities)).completed() == []


async def test_a_lie_stays_with_the_liar(cells: Lab, canary: Canary) -> None:
    """Results, frames and denials of others are as before."""
    async with canary.beside():
        await cells.call(say, arguments={"lines": list(LIES.values()), "status": 1})
        ended = await cells.shell("echo honest")
    assert (ended.reason, ended.stdout, ended.denied) == ("Completed", "honest\n", set())
