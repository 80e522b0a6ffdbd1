"""What every ``Sandbox`` does, whatever backend it comes from (M12)."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import Promise
from corral.api import FileChunk, Output, Progress, Ready, Result, Started
from corral.sandbox.errors import RequestRefusedError, SandboxLostError
from corral.sandbox.port import Owner, Sandbox
from sandboxes import MIB, Lab, request, run_in, shell, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")


def greet(name: str, times: int = 1) -> dict[str, Any]:
    for _ in range(times):
        print(f"hello {name}")
    return {"greeted": name, "times": times, "nested": [None, True, 1.5, {"ä": "ö\U0001f600"}]}


async def test_M12_a_function_gets_its_arguments_and_gives_its_result(lab: Lab) -> None:
    ended = await lab.call(greet, arguments={"name": "wörld", "times": 2})
    assert ended.completed() == {
        "greeted": "wörld",
        "times": 2,
        "nested": [None, True, 1.5, {"ä": "ö\U0001f600"}],
    }
    assert ended.stdout == "hello wörld\nhello wörld\n"


async def test_M12_a_command_gets_its_input_and_gives_its_exit_status(lab: Lab) -> None:
    ended = await lab.run(request(shell("cat; echo problem >&2; exit 3", stdin="in\0put")))
    assert (ended.reason, ended.status.exit_code) == ("ToolError", 3)
    assert (ended.stdout, ended.stderr) == ("in\0put", "problem\n")


async def test_M12_a_command_s_json_output_is_its_result(lab: Lab) -> None:
    ended = await lab.run(request(shell("echo '{\"a\": [1, 2]}'", resultFormat="json")))
    assert ended.completed() == {"a": [1, 2]}


@pytest.mark.parametrize(
    "output", ["nothing", "1e999", "NaN", '{"a": 1} {"b": 2}', "[" * 500, '"\\ud800"', ""]
)
async def test_M12_a_command_s_output_that_is_no_json_is_the_tool_s_error(lab: Lab, output: str) -> None:
    ended = await lab.run(request({"command": ["/bin/echo", output], "resultFormat": "json"}))
    assert (ended.reason, ended.stdout) == ("ToolError", output + "\n")


async def test_M12_a_signal_is_told(lab: Lab) -> None:
    ended = await lab.shell("kill -SEGV $$")
    assert (ended.reason, ended.status.signal, ended.status.exit_code) == ("ToolError", 11, None)


async def test_M12_a_missing_program_is_the_tool_s_error(lab: Lab) -> None:
    ended = await lab.run(request({"command": ["/nowhere/at/all"]}))
    assert (ended.reason, ended.status.exit_code) == ("ToolError", 127)


def fail() -> None:
    print("before")
    raise KeyError("k")


async def test_M12_an_exception_is_told_and_the_output_kept(lab: Lab) -> None:
    ended = await lab.call(fail)
    assert (ended.reason, ended.stdout) == ("ToolError", "before\n")
    assert ended.status.error is not None
    assert ended.status.error.type == "KeyError"
    assert "Traceback" in ended.stderr


async def test_M12_frames_are_numbered_without_a_gap(lab: Lab) -> None:
    ended = await lab.shell("for n in 1 2 3; do echo $n; echo e$n >&2; sleep 0.02; done")
    assert [frame.seq for frame in ended.frames] == list(range(len(ended.frames)))
    kinds = [type(frame) for frame in ended.frames]
    assert kinds[:2] == [Ready, Started]
    assert kinds[-1] is Result
    assert set(kinds[2:-1]) == {Output}
    assert sorted(frame.t for frame in ended.frames) == [frame.t for frame in ended.frames]


async def test_B8_any_number_of_readers_follow_from_any_number(lab: Lab) -> None:
    what = request(shell("for n in 1 2 3 4 5; do echo $n; sleep 0.05; done"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        early = asyncio.get_running_loop().create_task(collect(sandbox, 0))
        whole = (await run_in(sandbox, what)).frames
        assert await early == whole
        for first in range(len(whole)):
            assert await collect(sandbox, first) == whole[first:]


async def collect(sandbox: Sandbox, first: int) -> list[Any]:
    seen: list[Any] = []
    async for frame in sandbox.frames(first):
        seen.append(frame)
        if isinstance(frame, Result):
            break
    return seen


async def test_B13_the_same_start_again_starts_nothing(lab: Lab) -> None:
    what = request(shell("echo run >> runs; sleep 0.1; cat runs"))
    async with lab.sandbox() as sandbox:
        for _ in range(3):
            await sandbox.start(what)
        first = await run_in(sandbox, what)
        again = await run_in(sandbox, what)
    assert (first.stdout, again.frames) == ("run\n", first.frames)


async def test_one_owner_for_life(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        mine = request(shell("echo mine > file; echo ok"), owner=Owner("mine"))
        assert (await run_in(sandbox, mine)).reason == "Completed"
        for other in (Owner("other"), Owner("mine", 2)):
            ended = await run_in(sandbox, request(shell("cat file"), owner=other))
            assert (ended.reason, ended.stdout) == ("SandboxFailed", "")
            assert ended.status.error is not None
            assert ended.status.error.type == "OwnedByAnother"
        # The refusals have not spoilt it for the owner.
        assert (await run_in(sandbox, request(shell("cat file"), owner=Owner("mine")))).stdout == "mine\n"


async def test_one_execution_at_a_time(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        owner = Owner("busy")
        first = request(shell("echo up; sleep 60"), owner=owner)
        await sandbox.start(first)
        await until_printed(sandbox, "up")
        second = await run_in(sandbox, request(shell("echo no"), owner=owner))
        assert second.status.error is not None
        assert (second.status.error.type, second.stdout) == ("Busy", "")


async def test_B16_executions_of_a_session_share_the_workspace(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        owner = Owner("session")
        outputs = []
        for number in range(4):
            ended = await run_in(sandbox, request(shell(f"echo {number} >> log; cat log"), owner=owner))
            outputs.append(ended.stdout)
    assert outputs == ["0\n", "0\n1\n", "0\n1\n2\n", "0\n1\n2\n3\n"]


async def test_sandboxes_do_not_see_each_other(lab: Lab) -> None:
    async with lab.sandbox() as one, lab.sandbox() as other:
        places = "/workspace/x /tmp/x /dev/shm/x"
        first = await run_in(one, request(shell(f"touch {places}; ls {places} | wc -l")))
        assert first.stdout.strip() == "3", first
        assert (await run_in(other, request(shell(f"ls {places} 2>/dev/null | wc -l")))).stdout.strip() == "0"


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB])
async def test_B15_a_file_comes_back_as_it_went_in(lab: Lab, size: int) -> None:
    data = os.urandom(size)
    async with lab.sandbox() as sandbox:
        await sandbox.put("deep/er/file.bin", data, 0o640)
        ended = await run_in(
            sandbox, request(shell("stat -c '%a %s' deep/er/file.bin; sha256sum < deep/er/file.bin"))
        )
        assert ended.stdout.split()[:2] == ["640", str(size)]
        assert await sandbox.get("deep/er/file.bin") == data


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "a/../../x", "a//b", ".", "", "a/./b", "x\0y", "a" * 300])
async def test_B15_a_path_that_leads_out_is_refused_and_nothing_runs(lab: Lab, path: str) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.put(path, b"data")
        ended = await run_in(sandbox, request(shell("echo ran")))
        assert (ended.reason, ended.stdout) == ("InvalidSpec", "")
        with pytest.raises(RequestRefusedError) as caught:
            await sandbox.get(path)
        assert caught.value.code == "PathRefused"


async def test_B15_what_is_no_file_is_not_read(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await run_in(
            sandbox, request(shell("mkdir d; mkfifo f; ln -s /etc/passwd l; ln -s d e; echo x > d/x"))
        )
        for path in ("missing", "d", "f", "l", "e/x"):
            with pytest.raises(RequestRefusedError):
                await sandbox.get(path)
        assert await sandbox.get("d/x") == b"x\n"


async def test_B15_outputs_come_back_within_their_limit(lab: Lab) -> None:
    script = "mkdir -p a/b; echo one > a/one.txt; echo two > a/b/two.txt; echo no > a/b/no.bin"
    script += "; head -c 5000 /dev/zero > z.txt"
    ended = await lab.run(request(shell(script), outputs=("**/*.txt",), outputs_limit_bytes=4096))
    ended.completed()
    assert {path: bytes(data) for path, data in ended.record.files.items()} == {
        "a/one.txt": b"one\n",
        "a/b/two.txt": b"two\n",
    }
    result = ended.frames[-1]
    assert isinstance(result, Result)
    skipped = {file.path: bool(file.skipped) for file in result.result.files}
    assert skipped == {"a/one.txt": False, "a/b/two.txt": False, "z.txt": True}
    assert any(isinstance(frame, FileChunk) for frame in ended.frames)


async def test_B15_outputs_come_back_from_a_tool_that_failed(lab: Lab) -> None:
    ended = await lab.run(request(shell("echo partial > out; exit 1"), outputs=("out",)))
    assert (ended.reason, bytes(ended.record.files["out"])) == ("ToolError", b"partial\n")


async def test_the_environment_is_the_request_s_and_a_few_of_the_sandbox_s(lab: Lab) -> None:
    ended = await lab.run(request(shell("env"), env={"GREETING": "hällo", "PATH": "/bin:/usr/bin"}))
    variables = dict(line.split("=", 1) for line in ended.stdout.splitlines())
    assert variables["GREETING"] == "hällo"
    assert variables["PATH"] == "/bin:/usr/bin"
    assert variables["HOME"] == "/workspace"
    assert set(variables) <= {
        *("GREETING", "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "PWD", "CORRAL_SANDBOX"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SHLVL", "_", "OLDPWD"),
    }


def report_progress() -> None:
    import os

    os.write(3, b'{"type":"progress","fraction":0.25,"message":"a quarter"}\n')


async def test_progress_is_passed_on(lab: Lab) -> None:
    ended = await lab.call(report_progress)
    progress = [frame for frame in ended.frames if isinstance(frame, Progress)]
    assert [(frame.fraction, frame.message) for frame in progress] == [(0.25, "a quarter")]


async def test_bytes_that_are_no_text_are_kept(lab: Lab) -> None:
    ended = await lab.shell("printf 'a\\377\\376b'; printf '\\303'; sleep 0.1; printf '\\244'")
    raw = b"".join(frame.raw for frame in ended.frames if isinstance(frame, Output))
    assert raw == b"a\xff\xfeb\xc3\xa4"


async def test_S7_cancel_ends_with_its_own_reason_and_keeps_the_output(lab: Lab) -> None:
    what = request(shell("echo before; sleep 60"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "before")
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
    assert (ended.reason, ended.status.phase, ended.stdout) == ("Cancelled", "Cancelled", "before\n")


async def test_cancel_of_nothing_does_nothing(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.cancel()
        assert (await run_in(sandbox, request(shell("echo ok")))).stdout == "ok\n"


async def test_kill_is_told_as_the_sandbox_s_failure(lab: Lab) -> None:
    what = request(shell("echo before; sleep 60"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "before")
        sandbox.kill()
        ended = await run_in(sandbox, what)
        assert (ended.reason, ended.stdout) == ("SandboxFailed", "before\n")
        for attempt in (sandbox.get("x"), sandbox.put("x", b""), sandbox.start(what), sandbox.cancel()):
            with pytest.raises(SandboxLostError):
                await attempt
        await sandbox.close()
        await sandbox.close()


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("sleep 60", {"wall_seconds": 1.5}, "DeadlineExceeded"),
        ("sleep 60", {"idle_seconds": 1.5}, "IdleTimeout"),
        ("yes", {"output_bytes": 10_000}, "OutputLimit"),
        ("while :; do :; done", {"cpu_seconds": 1.0}, "CPULimit"),
        ("tail /dev/zero", {"memory_bytes": 64 * MIB}, "OutOfMemory"),
        ("while :; do sleep 60 & done", {"processes": 10}, "ProcessLimit"),
        ("cat /dev/zero > x", {"disk_bytes": 4 * MIB, "file_size_bytes": 1 << 30}, "DiskLimit"),
        ("cat /dev/zero > x", {"file_size_bytes": MIB}, "FileSizeLimit"),
    ],
)
async def test_M2_each_limit_has_its_own_reason(
    lab: Lab, script: str, limits: dict[str, Any], reason: str
) -> None:
    ended = await lab.shell(f"echo before; {script}", **limits)
    assert (ended.reason, ended.stdout[:7]) == (reason, "before\n"), ended.status
    assert ended.status.limit is not None


def connect() -> None:
    import socket

    socket.create_connection(("127.0.0.1", 1), timeout=1)


async def test_M3_without_network_no_socket_can_be_made(lab: Lab) -> None:
    ended = await lab.call(connect)
    assert (ended.reason, "socket:AF_INET" in ended.denied) == ("NetworkDenied", True)
    assert ended.status.error is not None
    assert ended.status.error.rule == "network: none"


async def test_C4_without_write_the_workspace_cannot_be_changed(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.put("there", b"as it was")
        script = "cat there; echo; echo changed > there; touch new; rm there; mv there other; mkdir d; ls"
        ended = await run_in(sandbox, request(shell(script), permissions=("read", "execute")))
        assert ended.stdout == "as it was\nthere\n"
        assert await sandbox.get("there") == b"as it was"


async def test_C4_without_execute_no_program_starts(lab: Lab) -> None:
    ended = await lab.run(request(shell("echo ran"), permissions=("read", "write")))
    assert (ended.reason, ended.stdout) == ("PermissionDenied", "")
    assert ended.status.error is not None
    assert ended.status.error.rule == "permissions: execute"


async def test_A7_allowed_paths_are_all_of_the_workspace_that_there_is(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        for path in ("open/file", "closed/file", "single", "other"):
            await sandbox.put(path, b"content\n")
        script = "cat open/file single; cat closed/file other; echo x > open/new; echo x > closed/new; echo x > top"
        ended = await run_in(sandbox, request(shell(script), allowed_paths=("open", "single")))
        assert ended.stdout == "content\ncontent\n"
        assert await sandbox.get("open/new") == b"x\n"
        for path in ("closed/new", "top"):
            with pytest.raises(RequestRefusedError):
                await sandbox.get(path)


async def test_a_directory_of_the_host_is_the_workspace(lab: Lab, workspace: Path) -> None:
    (workspace / "in").write_text("from the host\n")
    ended = await lab.run(request(shell("cat in; echo from the tool > out; echo x > /tmp/x")), workspace)
    assert (ended.reason, ended.stdout) == ("Completed", "from the host\n")
    assert (workspace / "out").read_text() == "from the tool\n"
    assert (workspace / "out").stat().st_uid == workspace.stat().st_uid
    assert sorted(path.name for path in workspace.iterdir()) == ["in", "out"]


async def test_a_directory_of_the_host_can_be_read_only(lab: Lab, workspace: Path) -> None:
    (workspace / "in").write_text("content\n")
    async with lab.sandbox(workspace, read_only=True) as sandbox:
        ended = await run_in(sandbox, request(shell("cat in; echo x > out; echo x > in")))
    assert ended.stdout == "content\n"
    assert [path.name for path in workspace.iterdir()] == ["in"]
    assert (workspace / "in").read_text() == "content\n"


async def test_M2_the_disk_limit_holds_in_a_directory_of_the_host(lab: Lab, workspace: Path) -> None:
    (workspace / "before").write_bytes(bytes(8 * MIB))
    what = request(
        shell("for n in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/zero > $n; sleep 0.1; done; sleep 60")
    )
    what = request(what.run, disk_bytes=4 * MIB)
    ended = await lab.run(what, workspace)
    assert (ended.reason, (workspace / "before").stat().st_size) == ("DiskLimit", 8 * MIB)


async def test_a_sandbox_says_what_isolates_it(lab: Lab, promise: Promise) -> None:
    ended = await lab.shell("true")
    assert set(ended.record.isolation) == promise.isolation
    assert ended.record.weakened == promise.weakened


async def test_many_at_once_each_get_their_own_result(lab: Lab) -> None:
    ended = await asyncio.gather(*(lab.call(greet, arguments={"name": str(number)}) for number in range(12)))
    assert [each.completed()["greeted"] for each in ended] == [str(number) for number in range(12)]


async def test_files_put_are_not_executable_as_somebody_else(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.put("program", b"#!/bin/sh\n", 0o7777)
        ended = await run_in(sandbox, request(shell("stat -c %a program")))
    assert int(ended.stdout, 8) & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) == 0
