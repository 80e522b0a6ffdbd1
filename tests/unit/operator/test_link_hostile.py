"""Runners that somebody took over: what they send, or do not read, harms nobody but their own task."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from corral.api import DEFAULT_LIMITS, ExecutionStatus, InputFile, Reason, ResolvedLimits
from corral.cluster.names import RUNNER_LABEL
from corral.cluster.port import ObjectKey
from corral.sandbox.execution import Record
from corral.sandbox.pod.allowance import most_bytes
from corral.sandbox.pod.tokens import KEY_BYTES
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.clock import Clock
from corral_operator.control.artifacts import Artifacts
from corral_operator.control.links import Links
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.runs import Runs
from corral_operator.decisions.actions import Start
from corral_operator.decisions.observed import RunView
from corral_operator.sandboxes.link import Link
from corral_operator.sandboxes.run import Run
from corral_operator.settings import Settings
from eventually import eventually_async
from unit.operator.factories import NOW, RUNNING, pod
from unit.operator.runners import RESULT, TOKEN, ScriptedRunner
from unit.operator.task_factories import task

POD = ObjectKey("team", "box", "uid-box")
OWNER = Owner("task-uid/main", 1)
REQUEST = ExecutionRequest(
    id="main",
    owner=OWNER,
    run={"function": {"code": "def main(): return 7", "entrypoint": "main"}},
    limits=replace(ResolvedLimits.of(DEFAULT_LIMITS), wall_seconds=20.0),
    outputs=("*",),
    outputs_limit_bytes=1 << 20,
)
STARTED = {"type": "started", "pid": 1, "attempt": 1}
MIB = 1 << 20
#: What the kernel holds of a loopback connection, in both directions, and what one look at it reads.
_ON_THE_WAY_BYTES = 16 * MIB


@asynccontextmanager
async def _linked(runner: ScriptedRunner) -> AsyncIterator[Link]:
    link = Link(POD, "127.0.0.1", runner.port, TOKEN, lambda _pod: None)
    try:
        yield link
    finally:
        await link.close()


def _run(link: Link, request: ExecutionRequest | None = REQUEST, files: tuple[InputFile, ...] = ()) -> Run:
    record = Record("main", "once", 1, NOW, keep=1000, outputs_bytes=MIB)
    return Run(link, OWNER, request, record, files, start_seconds=10)


def _line(frame: dict[str, Any], seq: int) -> bytes:
    return json.dumps({"seq": seq, "t": 0.0, "execution": "main", **frame}).encode() + b"\n"


def _without_end(frame: dict[str, Any], first: int = 0) -> Iterator[bytes]:
    for seq in count(first):
        yield _line(frame if seq else STARTED, seq)


def _reason(view: RunView) -> tuple[Reason | None, str | None, str | None]:
    assert view.ended is not None
    error = view.ended.error
    return view.ended.reason, None if error is None else error.type, view.ended.message


# --- too much ---


async def test_M5_a_runner_that_sends_without_end_is_cut_off_and_its_task_fails() -> None:
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.floods = partial(_without_end, {"type": "stdout", "data": "x" * 50_000})
        assert _reason(await _run(link).follow()) == (
            Reason.SANDBOX_FAILED,
            "ProtocolBrokenError",
            "the runner sent more than its execution can bring",
        )
        assert runner.flooded_bytes < most_bytes(REQUEST) + _ON_THE_WAY_BYTES


async def test_M5_a_runner_gains_nothing_by_hanging_up() -> None:
    def pieces(first: int) -> Iterator[bytes]:
        for number, line in enumerate(_without_end({"type": "stdout", "data": "x" * 50_000}, first)):
            if number == 100:
                runner.hang_up()
            yield line

    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.floods = pieces
        view = await _run(link).follow()
        assert _reason(view)[0] is Reason.SANDBOX_FAILED
        assert runner.connections > 1
        assert runner.flooded_bytes < most_bytes(REQUEST) + _ON_THE_WAY_BYTES


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (100_000, "the runner sent back more than 1048576 bytes of files"),
        (0, "the runner sent back more than 1000 files"),
    ],
)
async def test_M5_files_that_nobody_asked_for_are_not_kept(size: int, message: str) -> None:
    def pieces(_first: int) -> Iterator[bytes]:
        for seq in count():
            yield _line(
                {"type": "file", "path": f"{seq}.txt", "data": "QUJD" * (size // 3), "last": True}, seq
            )

    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.floods = pieces
        run = _run(link)
        assert _reason(await run.follow()) == (Reason.SANDBOX_FAILED, "FrameError", message)
        assert len(run.record.files) <= 1001


async def test_M5_nothing_more_is_read_than_is_followed() -> None:
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        request = replace(REQUEST, limits=replace(REQUEST.limits, output_bytes=64 * MIB))
        lines = [_line({"type": "stdout", "data": "x" * 50_000}, seq) for seq in range(1000)]
        runner.floods = lambda _first: iter(lines)
        frames = link.follow(OWNER, request, "main", ())
        assert (await anext(frames)).seq == 0
        last = -1
        while runner.flooded_bytes != last:  # until the kernel takes no more
            last = runner.flooded_bytes
            await asyncio.sleep(0.2)
        assert last < _ON_THE_WAY_BYTES < sum(map(len, lines))
        assert [(await anext(frames)).seq for _ in lines[1:]] == list(range(1, 1000))


# --- no protocol ---

_NONSENSE = {
    "a list": b"[]\n",
    "a list that names a number": b'["seq"]\n',
    "text that names a number": b'"seq"\n',
    "a number": b"5\n",
    "null": b"null\n",
    "deep nesting": b"[" * 500_000 + b"\n",
    "deep nesting in a frame": b'{"seq":0,"t":0,"type":"result","result":' + b"[" * 500_000 + b"\n",
    "a huge number": b'{"seq":' + b"9" * 5000 + b"}\n",
    "a frame whose number is a list": b'{"seq":[],"t":0,"type":"stdout","data":""}\n',
    "a frame whose number is not the next": _line(STARTED, 7),
    "a frame twice": _line(STARTED, 0) * 2,
    "a refusal whose code is a list": b'{"type":"error","code":[],"message":"","execution":"main"}\n',
    "a refusal without a message": b'{"type":"error","code":"Busy","execution":"main"}\n',
    "an answer to nothing": b'{"type":"file","data":"","last":true}\n',
    "no type": b"{}\n",
    "a type that is a list": b'{"type":[]}\n',
    "a frame whose type is a list": b'{"seq":0,"t":0,"type":[]}\n',
    "an owner of another type": b'{"type":"description","owner":{"uid":5,"attempt":1},"executions":[]}\n',
    "executions of another type": b'{"type":"description","owner":null,"executions":5}\n',
    "a long line": b"x" * 3 * MIB,
    "a long line that ends": b'"' + b"x" * 3 * MIB + b'"\n',
    "many refused calls": _line({**RESULT, "denials": [{"syscall": ""}] * 50_000}, 0),
    "many files": _line({**RESULT, "files": [{"path": ""}] * 50_000}, 0),
}


@pytest.mark.parametrize("says", _NONSENSE.values(), ids=_NONSENSE)
async def test_M5_nonsense_ends_the_task_that_it_is_of_and_nothing_else(
    says: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.floods = lambda _first: iter([says])
        async with asyncio.timeout(60):
            view = await _run(link).follow()
        assert _reason(view)[0] is Reason.SANDBOX_FAILED
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- no reading ---


async def test_M5_a_runner_that_does_not_read_keeps_no_cancel_waiting() -> None:
    files = tuple(InputFile(path=f"{n}", content="x" * 65536, mode="0644") for n in range(64))
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.reads_no_more = True
        run = _run(link, files=files)
        following = asyncio.create_task(run.follow())
        await eventually_async(lambda: link.description and link.description.owner == OWNER)
        async with asyncio.timeout(3):
            await run.cancel()
        following.cancel()


async def test_M5_what_a_runner_does_not_read_is_not_kept_for_ever() -> None:
    files = tuple(InputFile(path=f"{n}", content="\U0001f4a9" * 65536, mode="0644") for n in range(64))
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.reads_no_more = True
        view = await _run(link, files=files).follow()
        assert _reason(view)[2] == "the runner does not read what it is sent"


# --- another's address ---


@pytest.mark.parametrize(
    "says",
    [
        None,
        [b'{"type":"description","owner":null,"executions":[]}\n'],
        [b'{"type":"proof"}\n{"type":"description","owner":null,"executions":[]}\n'],
        [b'{"type":"proof","proof":"\\ud800"}\n'],
        [_line(STARTED, 0)],
    ],
    ids=["another pod's", "none", "an empty one", "no text", "a frame"],
)
async def test_M5_who_cannot_prove_to_be_the_pods_runner_is_told_nothing(says: list[bytes] | None) -> None:
    async with ScriptedRunner.started() as runner, _linked(runner) as link:
        runner.token, runner.says = "of a pod that has the address now", says
        following = asyncio.create_task(_run(link).follow())
        await eventually_async(lambda: runner.connections >= 2)
        assert (link.unused, runner.tokens, runner.requests) == (False, [], [])
        assert link.silent_since is not None
        runner.token, runner.says = TOKEN, None
        view = await following
        assert view.ended is not None
        assert view.ended.result == 7


# --- the end ---


async def test_M5_nothing_is_read_once_the_task_has_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(_first: int) -> Iterator[bytes]:
        yield _line(STARTED, 0)
        yield _line(RESULT, 1)
        for seq in count(2):
            yield _line({"type": "stdout", "data": "x" * 50_000}, seq)

    async with ScriptedRunner.started() as runner:
        monkeypatch.setattr("corral_operator.control.links.RUNNER_PORT", runner.port)
        maker = PodMaker(Settings(), b"k" * KEY_BYTES)
        runner.token = maker.tokens(POD.namespace, POD.name).start
        links = Links(maker, lambda _pod: None)
        clock = Clock()
        runs = Runs(links, Artifacts(None, clock, Settings()), clock, Settings(), lambda _uid: None)
        runner.floods = pieces
        seen = pod("box", state=RUNNING, podIP="127.0.0.1", labels={RUNNER_LABEL: "true"})
        links.see(seen)
        execution = ExecutionStatus(name="main", tool="once")
        start = Start("main", seen.key, OWNER, REQUEST)
        runs.start(task(), execution, start, secret_env=(), late_env={}, queued=NOW)
        await eventually_async(lambda: runner.is_cut_off)
        links.see(seen)
        await asyncio.sleep(0.1)
        assert runner.connections == 1, "nobody calls it back"
        await runs.close()
        await links.close()
