"""Following an attempt in a pod over connections that break."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.api import DEFAULT_LIMITS, InputFile, Reason, ResolvedLimits
from corral.cluster.port import ObjectKey
from corral.sandbox.errors import SandboxLostError
from corral.sandbox.execution import Record
from corral.sandbox.pod.channel import Description
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.sandboxes.link import Link
from corral_operator.sandboxes.run import Run
from eventually import eventually_async
from unit.operator.factories import NOW
from unit.operator.runners import READY, RESULT, TOKEN, ScriptedRunner, real_runner

POD = ObjectKey("team", "box", "uid-box")
OWNER = Owner("task-uid/main", 1)
STRANGER = Owner("other-uid/main", 1)


def _request(code: str = "def main(): return 7", owner: Owner = OWNER, **limits: float) -> ExecutionRequest:
    return ExecutionRequest(
        id="main",
        owner=owner,
        run={"function": {"code": code, "entrypoint": "main"}},
        limits=replace(ResolvedLimits.of(DEFAULT_LIMITS), **{"wall_seconds": 20.0, **limits}),  # type: ignore[arg-type]
        permissions=("read", "write", "execute"),
    )


def _run(
    link: Link,
    request: ExecutionRequest | None = None,
    *,
    owner: Owner = OWNER,
    files: tuple[InputFile, ...] = (),
) -> Run:
    return Run(link, owner, request, Record("main", "once", owner.attempt, NOW), files, start_seconds=300)


@asynccontextmanager
async def _linked(port: int, token: str = TOKEN) -> AsyncIterator[tuple[Link, list[ObjectKey]]]:
    heard: list[ObjectKey] = []
    link = Link(POD, "127.0.0.1", port, token, heard.append)
    try:
        yield link, heard
    finally:
        await link.close()


async def _is_unused(link: Link) -> None:
    await eventually_async(lambda: link.unused)


# --- the real runner ---


async def test_B13_a_real_runner_is_found_unused_runs_once_and_is_re_attached_to(tmp_path: Path) -> None:
    async with real_runner(tmp_path) as port:
        file = InputFile(path="in.txt", content="from the task", mode="0644")
        code = "def main():\n  print('hi')\n  return open('in.txt').read()"
        async with _linked(port) as (link, heard):
            await _is_unused(link)
            assert heard == [POD]
            assert link.description == Description(None, ())
            view = await _run(link, _request(code), files=(file,)).follow()
            assert view.ended is not None
            assert (view.ended.reason, view.ended.result, view.began) == (
                Reason.COMPLETED,
                "from the task",
                True,
            )
            assert not link.unused
        async with _linked(port) as (link, _):
            again = await _run(link, _request("def main(): return 'twice'")).follow()
            assert again.ended is not None
            assert (again.ended.result, again.ended.output) == ("from the task", view.ended.output)
        async with _linked(port) as (link, _):
            attached = await _run(link).follow()
            assert attached.ended is not None
            assert attached.ended.result == "from the task"
            stranger = await _run(link, _request(owner=STRANGER), owner=STRANGER).follow()
            assert stranger.never_started == "the sandbox has served another task"


async def test_B13_of_two_tasks_that_were_given_one_sandbox_its_runner_serves_the_first_whoever_asks(
    tmp_path: Path,
) -> None:
    code = "import time\ndef main():\n  time.sleep(0.5)\n  return 7"
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        await _is_unused(theirs)
        run = _run(ours, _request(code))
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: run.record.started)
        # Another operator has not heard of it, and has given this sandbox to one more task.
        assert theirs.unused
        other, same = await asyncio.gather(
            _run(theirs, _request("def main(): return 8", STRANGER), owner=STRANGER).follow(),
            _run(theirs, _request(code)).follow(),
        )
        first = await following
    assert (other.ended, other.began) == (None, False)
    assert other.never_started == "this sandbox serves another task or attempt"
    assert first.ended is not None
    assert same.ended is not None
    assert (first.ended.result, same.ended.result) == (7, 7)


async def test_B13_what_comes_too_late_with_its_files_is_told_whose_the_sandbox_is(tmp_path: Path) -> None:
    code = "import time\ndef main():\n  time.sleep(0.5)\n  return open('in.txt').read()"
    file, files = InputFile(path="in.txt", content="ours", mode="0644"), ("in.txt", "other.txt")
    others = tuple(InputFile(path=path, content="of a stranger", mode="0644") for path in files)
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        await _is_unused(theirs)
        run = _run(ours, _request(code), files=(file,))
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: run.record.started)
        assert theirs.unused
        same, other = await asyncio.gather(
            _run(theirs, _request(code), files=(file,)).follow(),
            _run(theirs, _request("def main(): return 8", STRANGER), owner=STRANGER, files=others).follow(),
        )
        first = await following
    assert other.never_started is not None
    assert first.ended is not None
    assert same.ended is not None
    assert (first.ended.result, same.ended.result) == ("ours", "ours")


async def test_S3_nobodys_files_reach_a_sandbox_that_then_serves_another_task(tmp_path: Path) -> None:
    look = "import os\ndef main(): return os.listdir('.')"
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        await _is_unused(theirs)
        channel, _ = await theirs._ready()
        channel.speak_for(STRANGER)
        await channel.put("in.txt", b"a secret", 0o644)
        assert (await channel.describe()).owner == STRANGER
        assert (await _run(ours, _request(look)).follow()).never_started is not None
        await channel.start(_request(look, STRANGER))
        assert (await channel.describe()).executions == ("main",)


async def test_S3_a_file_that_names_no_owner_would_reach_whoever_starts_first(tmp_path: Path) -> None:
    """The attack of the test above, without what keeps it off."""
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        await _is_unused(theirs)
        channel, _ = await theirs._ready()
        await channel.put("in.txt", b"a secret", 0o644)
        assert (await channel.describe()).owner is None
        view = await _run(ours, _request("def main(): return open('in.txt').read()")).follow()
    assert view.ended is not None
    assert view.ended.result == "a secret"


async def test_B13_a_task_that_waits_for_its_sandbox_cancels_no_other_that_runs_there(tmp_path: Path) -> None:
    code = "import time\ndef main():\n  time.sleep(0.5)\n  return 7"
    async with real_runner(tmp_path) as port, _linked(port) as (link, _):
        run = _run(link, _request(code))
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: run.record.started)
        await _run(link, _request(code, STRANGER), owner=STRANGER).cancel()
        view = await following
    assert view.ended is not None
    assert view.ended.reason is Reason.COMPLETED


async def test_B13_a_real_runner_that_serves_nobody_retires_and_starts_nothing_more(tmp_path: Path) -> None:
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        await _is_unused(theirs)
        assert await ours.retire(5) == Description(None, (), retired=True)
        assert not ours.unused
        late = await _run(theirs, _request()).follow()
        assert (late.never_started, late.ended) == ("this sandbox is being taken away", None)
        async with _linked(port) as (link, _):
            await eventually_async(lambda: link.description)
            assert (link.unused, link.description) == (False, Description(None, (), retired=True))
            assert (await _run(link, _request()).follow()).never_started == "the sandbox is being taken away"


async def test_B13_a_real_runner_that_serves_somebody_does_not_retire(tmp_path: Path) -> None:
    code = "import time\ndef main():\n  time.sleep(0.5)\n  return 7"
    async with real_runner(tmp_path) as port, _linked(port) as (ours, _), _linked(port) as (theirs, _):
        await _is_unused(ours)
        run = _run(theirs, _request(code))
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: run.record.started)
        assert ours.unused, "no more is known of it than when the connection was made"
        assert await ours.retire(5) == Description(OWNER, ("main",))
        view = await following
    assert view.ended is not None
    assert (view.ended.reason, view.ended.result) == (Reason.COMPLETED, 7)


async def test_B13_a_runner_that_does_not_answer_says_nothing_of_whom_it_serves() -> None:
    async with ScriptedRunner.started() as runner:
        runner.is_silent = True
        async with _linked(runner.port) as (link, _):
            assert await link.retire(0.05) is None


async def test_M1_a_real_runner_that_is_cancelled_says_so_and_keeps_what_was_printed(tmp_path: Path) -> None:
    async with real_runner(tmp_path) as port, _linked(port) as (link, _):
        run = _run(link, _request("import time\ndef main():\n  print('half', flush=True)\n  time.sleep(60)"))
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: "".join(run.record.stdout), lambda text: "half" in text)
        await run.cancel()
        view = await following
        assert view.ended is not None
        assert view.ended.reason is Reason.CANCELLED
        assert view.ended.output is not None
        assert view.ended.output.stdout == "half\n"


async def test_M5_a_real_runner_does_not_answer_to_another_token(tmp_path: Path) -> None:
    async with real_runner(tmp_path) as port, _linked(port, "wrong") as (link, heard):
        await eventually_async(lambda: link.trouble, lambda trouble: "not the pod's runner" in trouble)
        assert (link.unused, heard) == (False, [])


async def test_M5_a_real_runner_may_send_all_that_its_limits_let_a_tool_print(tmp_path: Path) -> None:
    # What takes most room on the way: single characters, as fast as the tool can, and each is six of JSON.
    code = (
        "import os\n"
        "def main():\n"
        "  for _ in range(20_000): os.write(1, b'\\0'), os.write(2, b'\\0')\n"
        "  os.write(1, bytes((1 << 20) - 40_000))\n"
        "  open('out', 'wb').write(bytes(1 << 19))\n"
        "  return 'x' * 200_000"
    )
    request = replace(_request(code), outputs=("out",), outputs_limit_bytes=1 << 19)
    async with real_runner(tmp_path) as port, _linked(port) as (link, _):
        view = await _run(link, request).follow()
        assert view.ended is not None
        assert (view.ended.reason, view.ended.message) == (Reason.COMPLETED, None)
        assert [file.size for file in view.ended.files] == [1 << 19]


# --- broken connections ---


@pytest.mark.parametrize("breaks_after", [1, 2, 3, 5])
async def test_B8_a_broken_connection_loses_and_doubles_nothing(breaks_after: int) -> None:
    async with ScriptedRunner.started() as runner:
        printed = [{"type": "stdout", "data": f"{n}\n"} for n in range(4)]
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}, *printed, RESULT]
        runner.breaks_after = breaks_after
        async with _linked(runner.port) as (link, heard):
            view = await _run(link, _request()).follow()
            assert view.ended is not None
            assert view.ended.output is not None
            assert (view.ended.reason, view.ended.output.stdout) == (Reason.COMPLETED, "0\n1\n2\n3\n")
            assert [request["op"] for request in runner.requests] == ["start"], "it was told once"
            assert runner.connections == 2
            assert len(heard) == 3, "ready, lost, ready"


async def test_B13_a_start_that_may_have_arrived_is_asked_about_before_it_is_sent_again() -> None:
    async with ScriptedRunner.started() as runner:
        runner.brings = []
        async with _linked(runner.port) as (link, _):
            following = asyncio.create_task(_run(link, _request()).follow())
            await eventually_async(lambda: runner.executions)
            runner.hang_up()
            await eventually_async(lambda: runner.connections == 2)
            runner.bring(RESULT)
            view = await following
            assert view.ended is not None
            assert len(runner.requests) == 1


async def test_B13_a_start_that_did_not_arrive_is_sent_again() -> None:
    async with ScriptedRunner.started() as runner, _linked(runner.port) as (link, _):
        await _is_unused(link)
        runner.is_silent = True
        following = asyncio.create_task(_run(link, _request()).follow())
        await asyncio.sleep(0.05)
        runner.is_silent = False
        runner.hang_up()
        view = await following
        assert view.ended is not None
        assert (view.ended.result, view.told) == (7, True)


async def test_B13_attaching_to_a_runner_that_was_never_told_starts_nothing() -> None:
    async with ScriptedRunner.started() as runner, _linked(runner.port) as (link, _):
        view = await _run(link).follow()
        assert view.never_started == "the sandbox was never told what to run"
        assert runner.requests == []


async def test_B13_a_sandbox_that_served_somebody_else_is_not_told_anything() -> None:
    async with ScriptedRunner.started() as runner:
        runner.owner, runner.executions = {"uid": "other", "attempt": 1}, ["main"]
        async with _linked(runner.port) as (link, _):
            view = await _run(link, _request()).follow()
            assert (view.never_started is not None, runner.requests, link.unused) == (True, [], False)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("OwnedByAnother", None),
        ("DiskLimit", Reason.DISK_LIMIT),
        ("PathRefused", Reason.INVALID_SPEC),
        ("Unsupported", Reason.UNSUPPORTED),
        ("SandboxFailed", Reason.SANDBOX_FAILED),
    ],
)
async def test_B13_a_refused_start_ends_with_its_reason_and_nothing_has_begun(
    code: str, reason: Reason | None
) -> None:
    async with ScriptedRunner.started() as runner:
        runner.refuses = code
        async with _linked(runner.port) as (link, _):
            view = await _run(link, _request()).follow()
            assert view.began is False
            assert (view.ended.reason if view.ended is not None else None) == reason
            assert (view.never_started is not None) == (reason is None)


# --- runners that are none ---

_MALFORMED: list[list[bytes]] = [
    [b"hello\n"],
    [b"[]\n"],
    [b'{"seq": 0}\n'],
    [b'{"seq": 0, "t": 0, "type": "unknown"}\n'],
    [b'{"type": "description"}\n', json.dumps({"seq": 0, "t": 0.0, **READY}).encode() + b"\n"],
    [json.dumps({"seq": 0, "t": 0.0, **READY}).encode() + b"\n", b'{"type": "description", "owner": 5}\n'],
    [json.dumps({"seq": 0, "t": 0.0, **READY}).encode() + b"\n", b'{"type": "description", "owner": {}}\n'],
    [b"\xff\xfe\n"],
    [b"x" * (3 << 20)],
]


@pytest.mark.parametrize("says", _MALFORMED, ids=range(len(_MALFORMED)))
async def test_B13_a_link_outlives_a_runner_that_talks_nonsense(
    says: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_operator.sandboxes.link._HELLO_SECONDS", 0.2)
    async with ScriptedRunner.started() as runner:
        runner.says = says
        async with _linked(runner.port) as (link, heard):
            await eventually_async(lambda: runner.connections >= 2)
            assert (link.unused, heard) == (False, [])
            runner.says = None
            runner.hang_up()
            await _is_unused(link)


async def test_B13_a_runner_that_accepts_and_says_nothing_is_left_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corral_operator.sandboxes.link._HELLO_SECONDS", 0.1)
    async with ScriptedRunner.started() as runner:
        runner.is_silent = True
        async with _linked(runner.port) as (link, _):
            await eventually_async(lambda: runner.connections >= 2)
            assert link.silent_since is not None
            with pytest.raises(SandboxLostError):
                await link.send({"op": "cancel"})
            runner.is_silent = False
            await _is_unused(link)
            assert link.silent_since is None


async def test_B13_a_frame_that_is_none_ends_the_attempt_as_one_that_may_have_begun() -> None:
    async with ScriptedRunner.started() as runner:
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}, {"type": "stdout", "data": 5}]
        async with _linked(runner.port) as (link, _):
            view = await _run(link, _request()).follow()
            assert view.ended is not None
            assert (view.ended.reason, view.began) == (Reason.SANDBOX_FAILED, True)


async def test_M2_a_runner_that_does_not_end_its_tool_at_the_deadline_is_asked_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corral_operator.sandboxes.run._LATE_SECONDS", 0.1)
    monkeypatch.setattr("corral_operator.sandboxes.run._ANSWER_SECONDS", 0.2)
    async with ScriptedRunner.started() as runner:
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}]
        async with _linked(runner.port) as (link, _):
            view = await _run(link, _request(wall_seconds=0.1)).follow()
            assert view.ended is not None
            assert (view.ended.reason, view.began) == (Reason.DEADLINE_EXCEEDED, True)
            assert not view.told, "it may still run"
    async with ScriptedRunner.started() as runner:
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}]
        async with _linked(runner.port) as (link, _):
            following = asyncio.create_task(_run(link, _request(wall_seconds=0.1)).follow())
            await eventually_async(lambda: runner.executions)
            runner.is_silent = True
            view = await following
            assert (view.ended, view.lost) == (None, "the runner does not answer any more")


async def test_M2_a_flood_of_output_is_kept_up_to_a_bound_and_the_result_still_comes() -> None:
    async with ScriptedRunner.started() as runner:
        flood: list[dict[str, Any]] = [{"type": "stdout", "data": "x" * 50_000}] * 200
        runner.brings = [{"type": "started", "pid": 1, "attempt": 1}, *flood, RESULT]
        async with _linked(runner.port) as (link, _):
            record = Record("main", "once", 1, NOW, keep=1000)
            view = await Run(link, OWNER, _request(), record, (), start_seconds=300).follow()
            assert view.ended is not None
            assert view.ended.output is not None
            assert (len(view.ended.output.stdout), view.ended.output.truncated) == (1000, True)
            assert link._channel is not None
            assert not link._channel._unread, "frames that were read are not kept"


# --- ends ---


@pytest.mark.parametrize("when", ["before it answers", "while it runs"])
async def test_M2_whoever_waits_hears_that_the_give_up(when: str) -> None:
    async with ScriptedRunner.started() as runner:
        runner.brings = []
        runner.is_silent = when == "before it answers"
        async with _linked(runner.port) as (link, _):
            following = asyncio.create_task(_run(link, _request()).follow())
            await eventually_async(lambda: runner.connections if runner.is_silent else runner.executions)
            link.give_up("the pod box is gone")
            link.give_up("told twice")
            view = await following
            assert view.lost == "the pod box is gone"
            assert link.silent_since is not None


async def test_B13_closing_leaves_the_runner_alone() -> None:
    async with ScriptedRunner.started() as runner:
        async with _linked(runner.port) as (link, _):
            await _is_unused(link)
        await asyncio.sleep(0.05)
        assert (runner.requests, runner.connections) == ([], 1)
