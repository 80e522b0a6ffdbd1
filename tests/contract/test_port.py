"""M12: a sandbox's frames, its readers, its files and its end, told in terms of the port alone."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from itertools import count, islice

import pytest

from corral.api import Frame, Ready, Result, Started
from corral.sandbox.errors import RequestRefusedError, SandboxError, SandboxLostError
from corral.sandbox.port import ExecutionRequest, Owner, Sandbox, SandboxBackend, SandboxNeeds
from eventually import eventually_async
from integration.sandbox.hosts_view import with_marker
from sandboxes import LIMITS, MIB, Lab, request, run_in, shell, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEEDS = SandboxNeeds(LIMITS.disk_bytes)


def marker() -> str:
    """Make a number of seconds that no other process of this machine sleeps for."""
    return f"31537{uuid.uuid4().int % 10**12}"


async def until_result(sandbox: Sandbox, first: int = 0) -> list[Frame]:
    """Return the frames up to the next result."""
    seen: list[Frame] = []
    async for frame in sandbox.frames(first):
        seen.append(frame)
        if isinstance(frame, Result):
            return seen
    raise AssertionError("there was no result")


async def until_lost_or_refused(sandbox: Sandbox) -> None:
    """Read frames as long as there are any."""
    async for _frame in sandbox.frames():
        pass


def of_owner(owner: Owner, script: str) -> ExecutionRequest:
    return request(shell(script), owner=owner)


# --- a life, and its frames ---


async def test_M12_a_sandbox_lives_from_acquire_to_close(lab: Lab) -> None:
    sandbox = await lab.backend.acquire(NEEDS)
    await sandbox.put("in.txt", b"put\n")
    await sandbox.start(request(shell("cat in.txt; echo x >&2; echo made > out.txt; exit 3")))
    seen = await until_result(sandbox)
    assert await sandbox.get("out.txt") == b"made\n"
    await sandbox.close()

    assert [frame.seq for frame in seen] == list(range(len(seen)))
    assert [type(seen[0]), type(seen[1]), type(seen[-1])] == [Ready, Started, Result]
    assert [frame.t for frame in seen] == sorted(frame.t for frame in seen)
    assert seen[0].execution is None
    assert len({frame.execution for frame in seen[1:]}) == 1
    last = seen[-1]
    assert isinstance(last, Result)
    assert (last.result.reason, last.result.exit_code) == ("ToolError", 3)


async def test_M12_the_environment_of_the_caller_does_not_reach_a_tool(
    new_backend: Callable[[], SandboxBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLERS_CANARY", "canary-51af")
    async with new_backend() as backend:
        for _ in range(3):
            ended = await Lab(backend).shell(
                "cat /proc/self/environ /proc/[0-9]*/environ", env={"WANTED": "yes"}
            )
            assert "WANTED=yes" in ended.stdout
            assert "canary-51af" not in ended.stdout


# --- one owner ---


async def test_M12_another_attempt_of_the_same_task_is_another_owner(lab: Lab) -> None:
    first = Owner("task")
    async with lab.sandbox() as sandbox:
        assert (await run_in(sandbox, of_owner(first, "echo mine > secret"))).reason == "Completed"
        await sandbox.start(of_owner(Owner("task", attempt=2), "cat secret"))
        with pytest.raises(RequestRefusedError) as refused:
            await until_lost_or_refused(sandbox)
        assert refused.value.code == "OwnedByAnother"
        assert (await run_in(sandbox, of_owner(first, "cat secret"))).stdout == "mine\n"


async def test_M12_a_stranger_does_not_disturb_what_runs(lab: Lab) -> None:
    mine = request(shell("echo up; sleep 0.3; echo end"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(mine)
        await until_printed(sandbox, "up")
        await sandbox.start(of_owner(Owner("other"), "echo stolen"))
        with pytest.raises(RequestRefusedError) as refused:
            await until_lost_or_refused(sandbox)
        # The same start again is a re-attach.
        ended = await run_in(sandbox, mine)
    assert refused.value.code == "OwnedByAnother"
    assert (ended.reason, ended.stdout) == ("Completed", "up\nend\n")


async def test_B13_the_same_start_during_and_after_a_run_starts_nothing(lab: Lab) -> None:
    what = request(shell("echo run >> log; cat log; sleep 0.2"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await sandbox.start(what)
        await until_printed(sandbox, "run")
        await sandbox.start(what)
        seen = await until_result(sandbox)
        again = await run_in(sandbox, what)
        assert await sandbox.get("log") == b"run\n"
    assert sum(isinstance(frame, Started) for frame in seen) == 1
    assert again.stdout == "run\n"


async def test_B16_an_execution_leaves_files_and_no_process_to_the_next(lab: Lab) -> None:
    mark = marker()
    owner = Owner("session")
    async with lab.sandbox() as sandbox:
        first = await run_in(sandbox, of_owner(owner, f"echo one > a; (setsid sleep {mark} &); echo started"))
        # Dead with the execution, not only with the sandbox.
        assert with_marker(mark) == []
        second = await run_in(sandbox, of_owner(owner, "cat a; echo two > b; exit 7"))
        third = await run_in(sandbox, of_owner(owner, "cat b; cat /proc/[0-9]*/cmdline"))
    assert (first.stdout, second.stdout, second.reason) == ("started\n", "one\n", "ToolError")
    assert third.stdout.startswith("two\n")
    assert mark not in third.stdout


# --- readers ---


async def test_B8_frames_are_followed_from_a_number(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.start(request(shell("for n in 1 2 3 4; do echo $n; sleep 0.05; done")))
        seen = await until_result(sandbox)
        for first in (1, 3, len(seen) - 1):
            assert await until_result(sandbox, first) == seen[first:]


async def test_B8_readers_at_the_same_time_see_the_same(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        early = asyncio.create_task(until_result(sandbox))
        leaver = asyncio.create_task(until_result(sandbox))
        await sandbox.start(request(shell("for n in 1 2 3 4 5 6; do echo $n; sleep 0.05; done")))
        seen = await until_printed(sandbox, "3")
        late = asyncio.create_task(until_result(sandbox))
        leaver.cancel()  # one that goes disturbs none that stays
        one, two = await asyncio.gather(early, late)
    assert one == two
    assert one[: len(seen)] == seen


# --- the end ---


async def test_M12_cancel_keeps_the_output_and_leaves_no_process(lab: Lab) -> None:
    mark = marker()
    what = request(shell(f"echo partial; (setsid sleep {mark} &); sleep {mark}; echo never"))
    async with lab.sandbox() as sandbox:
        await sandbox.start(what)
        await until_printed(sandbox, "partial")
        await sandbox.cancel()
        ended = await run_in(sandbox, what)
        assert with_marker(mark) == []
    assert (ended.reason, ended.stdout, ended.status.phase) == ("Cancelled", "partial\n", "Cancelled")


async def test_M12_a_killed_sandbox_is_lost_and_leaves_nothing(lab: Lab) -> None:
    mark = marker()
    async with lab.sandbox() as sandbox:
        await sandbox.start(request(shell(f"trap '' TERM; (setsid sleep {mark} &); echo up; sleep {mark}")))
        await until_printed(sandbox, "up")
        sandbox.kill()
        for use in (
            until_lost_or_refused(sandbox),
            sandbox.get("x"),
            sandbox.put("x", b""),
            sandbox.cancel(),
        ):
            with pytest.raises(SandboxLostError):
                await use
        await eventually_async(lambda: with_marker(mark), lambda found: found == [])
    assert (await lab.shell("echo another")).stdout == "another\n"


async def test_M12_close_waits_for_the_end_and_may_be_repeated(lab: Lab) -> None:
    mark = marker()
    sandbox = await lab.backend.acquire(NEEDS)
    await sandbox.start(request(shell(f"echo up; sleep {mark}; true")))
    await until_printed(sandbox, "up")
    await eventually_async(lambda: with_marker(f"{mark}\0"))
    await asyncio.gather(sandbox.close(), sandbox.close())
    assert with_marker(mark) == []
    await sandbox.close()
    sandbox.kill()


async def test_M12_a_closed_backend_leaves_no_process(new_backend: Callable[[], SandboxBackend]) -> None:
    mark = marker()
    backend = new_backend()
    async with asyncio.timeout(60):
        running = [await backend.acquire(NEEDS) for _ in range(3)]
        for sandbox in running:
            await sandbox.start(request(shell(f"trap '' TERM INT; echo up; sleep {mark}; sleep {mark}")))
            await until_printed(sandbox, "up")
        assert len(with_marker(mark)) >= 3
        await backend.close()
        assert with_marker(mark) == []
        await backend.close()
    with pytest.raises(SandboxError):
        await backend.acquire(NEEDS)


async def test_M12_a_released_sandbox_ends_by_itself(lab: Lab) -> None:
    mark = marker()
    sandbox = await lab.backend.acquire(NEEDS)
    await sandbox.start(request(shell(f"echo up; sleep {mark}")))
    await until_printed(sandbox, "up")
    lab.backend.release(sandbox)
    await eventually_async(lambda: with_marker(mark), lambda found: found == [])


async def test_M12_what_runs_in_one_sandbox_is_not_seen_in_others(lab: Lab) -> None:
    mark = marker()
    look = "ls -A . /tmp /dev/shm; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    what = request(shell(f"touch f /tmp/f /dev/shm/f; echo up; sleep {mark}; true"))
    async with lab.sandbox() as one:
        await one.start(what)
        await until_printed(one, "up")
        await eventually_async(lambda: with_marker(f"{mark}\0"))
        others = await asyncio.gather(*(lab.shell(look) for _ in range(3)))
    for other in others:
        assert other.stdout.startswith(".:\n\n/dev/shm:\n\n/tmp:\n")
        assert mark not in other.stdout


# --- files ---


async def test_B15_files_come_back_as_they_were_put(lab: Lab) -> None:
    block = b"".join(hashlib.sha256(str(number).encode()).digest() for number in islice(count(), MIB // 32))
    files = {
        "empty": b"",
        "deep/er/every byte": bytes(range(256)) * 3,
        "ünï€": b"\xff\xfe\x00",
        "large": block * 5,
    }
    what = request(shell("cp large copy; sha256sum large | cut -c -64; stat -c %a script; ./script"))
    async with lab.sandbox() as sandbox:
        for path, data in files.items():
            await sandbox.put(path, data)
        await sandbox.put("large", files["large"])  # again: replaced, not appended to
        await sandbox.put("script", b"#!/bin/sh\necho ran\n", 0o755)
        ended = await run_in(sandbox, what)
        for path, data in {**files, "copy": files["large"]}.items():
            assert await sandbox.get(path) == data
    assert ended.stdout.split() == [hashlib.sha256(files["large"]).hexdigest(), "755", "ran"]


async def test_B15_only_regular_files_of_the_workspace_are_given_out(lab: Lab) -> None:
    made = "mkdir dir; echo x > dir/f; ln -s /etc/passwd link; ln -s nowhere dangling; ln -s dir dir-link; mkfifo fifo"
    names = [
        "missing",
        "dir",
        "link",
        "dangling",
        "dir-link/f",
        "fifo",
        "../etc/passwd",
        "/etc/passwd",
        "",
        "dir/f\0",
    ]
    async with lab.sandbox() as sandbox, asyncio.timeout(60):
        assert (await run_in(sandbox, request(shell(made)))).reason == "Completed"
        for path in names:
            with pytest.raises(RequestRefusedError) as refused:
                await sandbox.get(path)
            assert (path, refused.value.code) == (path, "PathRefused")
            assert await sandbox.get("dir/f") == b"x\n"


@pytest.mark.parametrize("path", ["../up", "a/../../up", "/tmp/up", "up\0", "", ".", "a//up", "./up"])
async def test_B15_a_path_that_is_no_plain_one_is_refused_and_nothing_is_written(lab: Lab, path: str) -> None:
    owner = Owner("careless")
    async with lab.sandbox() as sandbox:
        await sandbox.put(path, b"evil")
        with pytest.raises(RequestRefusedError):
            await until_lost_or_refused(sandbox)
        refused = await run_in(sandbox, of_owner(owner, "echo ran"))
        look = await run_in(sandbox, of_owner(owner, "find . /tmp /dev/shm -type f; ls -d /up; true"))
    assert (refused.reason, refused.stdout) == ("InvalidSpec", "")
    assert (look.reason, look.stdout) == ("Completed", "")


@pytest.mark.parametrize("path", ["file", "dir/target"])
async def test_B15_a_put_does_not_follow_links_that_a_tool_left(lab: Lab, path: str) -> None:
    owner = Owner("links")
    made = "ln -s /tmp/target file; ln -s /tmp dir; echo old > /tmp/target; cat dir/target file"
    async with lab.sandbox() as sandbox:
        assert (await run_in(sandbox, of_owner(owner, made))).stdout == "old\nold\n"
        await sandbox.put(path, b"evil")
        with pytest.raises(RequestRefusedError):
            await until_lost_or_refused(sandbox)
        refused = await run_in(sandbox, of_owner(owner, "echo ran"))
        look = await run_in(sandbox, of_owner(owner, "cat /tmp/target"))
    assert (refused.reason, refused.stdout) == ("InvalidSpec", "")
    assert look.stdout == "old\n"
