"""B15: files between the artifact store and a real runner, as they come; what the store does not do is said."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from corral.api import (
    DEFAULT_LIMITS,
    ExecutionStatus,
    FileChunk,
    FrameError,
    InputFile,
    Output,
    Phase,
    Reason,
    ResolvedLimits,
)
from corral.artifacts.fsspec_store import FsspecStore
from corral.artifacts.names import file_name, input_name, stored_name
from corral.artifacts.port import ArtifactError, ArtifactMissingError, ArtifactStore
from corral.cluster.port import AGENT_TASKS, ObjectKey
from corral.sandbox.execution import Record
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.clock import Clock
from corral_operator.control.artifacts import Artifacts
from corral_operator.decisions.observed import RunView
from corral_operator.decisions.task_view import TaskView
from corral_operator.sandboxes.leaving import Leaving, Room
from corral_operator.sandboxes.link import Link
from corral_operator.sandboxes.run import Run
from corral_operator.settings import Settings
from eventually import eventually_async
from unit.operator.api_server import ApiServer
from unit.operator.factories import NOW
from unit.operator.replica import running, status_of
from unit.operator.runners import TOKEN, ScriptedRunner, real_runner
from unit.operator.task_factories import TASK, task, task_body

POD = ObjectKey("team", "box", "uid-box")
UID = TASK.uid
LARGE = os.urandom(1 << 20) * 7  # more than the operator holds of a file, and than a runner is sent unread
SHA256 = hashlib.sha256(LARGE).hexdigest()
COPY = (
    "import sys\n"
    "def main():\n"
    "  data = open('in/large', 'rb').read()\n"
    "  open('out', 'wb').write(data); open('small', 'w').write('small')\n"
    "  print('x' * 200_000); print('e' * 70_000, file=sys.stderr)\n"
    "  return len(data)"
)


class Failing:
    """A store some of whose methods fail, after so many calls that do not."""

    def __init__(self, store: FsspecStore, **after: int) -> None:
        self._store, self._after = store, after

    def __getattr__(self, name: str) -> Any:
        if name in self._after and self._after[name] <= 0:
            return self._fail
        if name in self._after:
            self._after[name] -= 1
        return getattr(self._store, name)

    async def _fail(self, *_arguments: Any) -> Any:
        raise ArtifactError("the store at s3.internal.example failed")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FsspecStore]:
    store = FsspecStore(str(tmp_path / "artifacts"))
    yield store
    await store.close()


def _task(sha256: str = SHA256, *, by_gateway: bool = True, made: datetime | None = None) -> TaskView:
    file = {"path": "in/large", "artifact": f"sha256:{sha256}"}
    seen = task({"tool": "once", "files": [file], "outputs": ["out", "small"]})
    return replace(seen, caller="ann" if by_gateway else "", created=made or Clock().now())


def _request(code: str = COPY) -> ExecutionRequest:
    return ExecutionRequest(
        id="main",
        owner=Owner(f"{UID}/main", 1),
        run={"function": {"code": code, "entrypoint": "main"}},
        limits=replace(ResolvedLimits.of(DEFAULT_LIMITS), wall_seconds=20.0),
        permissions=("read", "write", "execute"),
        outputs=("out", "small"),
    )


@asynccontextmanager
async def _linked(folder: Path) -> AsyncIterator[Link]:
    (folder / "box").mkdir()
    async with real_runner(folder / "box") as port:
        link = Link(POD, "127.0.0.1", port, TOKEN, lambda _pod: None)
        try:
            yield link
        finally:
            await link.close()


async def _follow(
    link: Link,
    store: ArtifactStore,
    seen: TaskView,
    *,
    request: ExecutionRequest | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[RunView, ExecutionStatus]:
    """Run a task's one execution as ``control.runs`` does."""
    told = Settings(artifacts_url="s3://bucket", **settings or {})
    artifacts = Artifacts(store, Clock(), told)
    execution, request = ExecutionStatus(name="main", tool="once"), request or _request()
    assert seen.spec is not None
    run = Run(
        link,
        request.owner,
        request,
        Record("main", "once", 1, NOW, keep=256 * 1024),
        seen.spec.files,
        start_seconds=20,
        read=artifacts.reader(seen),
        leaving=artifacts.leaving(seen, execution, request),
    )
    view = await run.follow()
    assert view.ended is not None, view
    assert run.leaving is not None
    return view, await run.leaving.ended(view.ended)


async def test_B15_a_large_file_goes_in_and_comes_back_and_the_status_says_where_it_is(
    store: FsspecStore, tmp_path: Path
) -> None:
    await store.put(UID, input_name(SHA256), LARGE)
    async with _linked(tmp_path) as link:
        _, ended = await _follow(link, store, _task())
    assert (ended.reason, ended.result) == (Reason.COMPLETED, len(LARGE)), ended.message
    out, small = ended.files
    assert (out.path, out.size, out.sha256, out.stored, out.data) == ("out", len(LARGE), SHA256, True, None)
    assert (small.path, small.stored, small.data) == ("small", None, b"small")
    assert await store.get(UID, file_name("main", "out")) == LARGE
    assert [(one.name, one.size) for one in ended.stored] == [("stdout", 200_001), ("stderr", 70_001)]
    assert await store.get(UID, stored_name("main", "stdout")) == b"x" * 200_000 + b"\n"
    assert hashlib.sha256(b"e" * 70_000 + b"\n").hexdigest() == ended.stored[1].sha256
    with pytest.raises(ArtifactMissingError):
        await store.get(UID, file_name("main", "small"))


async def test_B15_a_file_that_its_gateway_is_still_handing_over_is_waited_for(
    store: FsspecStore, tmp_path: Path
) -> None:
    async with _linked(tmp_path) as link:
        following = asyncio.create_task(_follow(link, store, _task()))
        await asyncio.sleep(0.5)
        assert not following.done()
        await store.put("submission", input_name(SHA256), LARGE)
        await store.move("submission", UID, input_name(SHA256))
        _, ended = await following
    assert ended.reason is Reason.COMPLETED, ended.message
    assert await store.tasks() == [UID]


@pytest.mark.parametrize("waits", [False, True], ids=["by kubectl", "by a gateway that is gone"])
async def test_B15_another_tasks_file_is_not_to_be_had_by_its_hash(
    store: FsspecStore, tmp_path: Path, *, waits: bool
) -> None:
    await store.put("another-task", input_name(SHA256), LARGE)
    seen = _task(by_gateway=waits, made=Clock().now() - timedelta(minutes=2))
    async with _linked(tmp_path) as link:
        view, ended = await _follow(link, store, seen)
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (Reason.INVALID_SPEC, "ArtifactMissing")
    assert ended.error.field == "spec.files[0].artifact"
    assert "Send the file itself to the gateway" in (ended.message or "")
    assert not view.began


async def test_B15_what_is_not_what_came_with_the_task_starts_nothing(
    store: FsspecStore, tmp_path: Path
) -> None:
    await store.put(UID, input_name(SHA256), LARGE[:-1])
    async with _linked(tmp_path) as link:
        view, ended = await _follow(link, store, _task())
        assert link.unused
    assert ended.error is not None
    assert (ended.reason, ended.error.type, view.began) == (Reason.SANDBOX_FAILED, "ArtifactCorrupt", False)


async def test_B15_files_of_more_bytes_than_a_task_may_have_start_nothing(
    store: FsspecStore, tmp_path: Path
) -> None:
    await store.put(UID, input_name(SHA256), LARGE)
    async with _linked(tmp_path) as link:
        view, ended = await _follow(link, store, _task(), settings={"artifacts_task_size": len(LARGE) - 1})
    assert ended.error is not None
    assert (ended.reason, ended.error.type, view.began) == (Reason.INVALID_SPEC, "ArtifactsTooLarge", False)


async def test_B15_the_store_is_asked_for_the_size_of_each_file_once(store: FsspecStore) -> None:
    contents = [str(number).encode() for number in range(64)]
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    for sha256, content in zip(hashes, contents, strict=True):
        await store.put(UID, input_name(sha256), content)
    files = [{"path": f"in/{place}", "artifact": f"sha256:{one}"} for place, one in enumerate(hashes)]
    seen = task({"tool": "once", "files": files})
    counted = Failing(store, size=64)
    read = Artifacts(counted, Clock(), Settings(artifacts_url="s3://bucket")).reader(seen)
    assert read is not None
    assert seen.spec is not None
    came = [b"".join([piece async for piece in read(file)]) for file in seen.spec.files]
    assert came == contents


@pytest.mark.parametrize("fails", ["size", "read"])
async def test_B15_a_store_that_does_not_give_a_file_is_told_with_what_to_do(
    store: FsspecStore, tmp_path: Path, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put(UID, input_name(SHA256), LARGE)
    async with _linked(tmp_path) as link:
        view, ended = await _follow(link, Failing(store, **{fails: 0}), _task())
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (Reason.SANDBOX_FAILED, "ArtifactStoreFailed")
    assert "Run the task again" in (ended.message or "")
    assert "s3.internal.example" not in (ended.message or "")
    assert "s3.internal.example" in caplog.text
    assert not view.began


async def test_B15_what_a_store_does_not_keep_is_no_result_and_says_so(
    store: FsspecStore, tmp_path: Path
) -> None:
    await store.put(UID, input_name(SHA256), LARGE)
    async with _linked(tmp_path) as link:
        _, ended = await _follow(link, Failing(store, writer=0), _task())
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (Reason.OUTPUT_LIMIT, "ArtifactStoreFailed")
    assert (ended.message or "").startswith("not kept: out: the artifact store failed; run the task again")
    assert [(file.path, file.stored, file.data) for file in ended.files] == [
        ("out", None, None),
        ("small", None, b"small"),
    ]
    assert ended.stored == ()


@pytest.mark.parametrize(
    ("method", "reason"), [("writer", Reason.OUTPUT_LIMIT), ("read", Reason.SANDBOX_FAILED)]
)
async def test_B15_a_store_that_is_silent_holds_no_sandbox_for_ever(
    store: FsspecStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, method: str, reason: Reason
) -> None:
    monkeypatch.setattr("corral_operator.sandboxes.leaving.STORE_SECONDS", 0.2)
    monkeypatch.setattr("corral_operator.sandboxes.incoming._STORE_SECONDS", 0.2)
    await store.put(UID, input_name(SHA256), LARGE)
    silent = Failing(store, **{method: 0})

    async def waits(*_arguments: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(silent, "_fail", waits)
    async with _linked(tmp_path) as link:
        _, ended = await _follow(link, silent, _task())
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (reason, "ArtifactStoreFailed")


async def test_B15_a_task_leaves_no_more_than_one_may(store: FsspecStore, tmp_path: Path) -> None:
    most = len(LARGE) + 100_000
    await store.put(UID, input_name(SHA256), LARGE)
    async with _linked(tmp_path) as link:
        _, ended = await _follow(link, store, _task(), settings={"artifacts_task_size": most})
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (Reason.OUTPUT_LIMIT, "ArtifactsTooLarge")


async def test_B15_a_runner_that_sends_files_all_at_once_has_not_as_many_uploads(store: FsspecStore) -> None:
    leaving = Leaving(
        store, UID, "main", Room(1 << 20, 1 << 20, "default"), output_bytes=10, files_bytes=1 << 20
    )
    await leaving.take(FileChunk(0, 0.0, "a", None, None, b"x", last=False))
    with pytest.raises(FrameError):
        await leaving.take(FileChunk(1, 0.0, "b", None, None, b"x", last=False))
    await leaving.give_up()


async def test_B15_of_a_file_no_more_is_taken_from_the_store_than_the_runner_reads() -> None:
    taken = 0

    async def read(_file: InputFile) -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(400):
            taken += 1
            yield LARGE[: 256 * 1024]

    async with ScriptedRunner.started() as runner:
        runner.reads_no_more = True
        link = Link(POD, "127.0.0.1", runner.port, TOKEN, lambda _pod: None)
        request, seen = _request(), _task()
        assert seen.spec is not None
        record = Record("main", "once", 1, NOW)
        run = Run(link, request.owner, request, record, seen.spec.files, start_seconds=2, read=read)
        view = await run.follow()
        await link.close()
    assert view.lost == "its runner did not answer in time"
    assert 0 < taken < 50, f"{taken} pieces of 256 KiB; the sockets hold some"


async def test_B15_of_a_content_that_comes_in_pieces_a_few_megabytes_are_in_memory(tmp_path: Path) -> None:
    most = 0

    class Opened:
        """Counts what is handed to it at once."""

        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def write(self, data: bytes) -> None:
            nonlocal most
            most = max(most, len(data))
            self._file.write(data)

        def close(self) -> None:
            self._file.close()

    store = FsspecStore(str(tmp_path))
    writer = await store.writer(UID, "x")
    writer._opened = Opened(writer._opened)  # type: ignore[assignment]
    for _ in range(200):
        await writer.write(LARGE[:65536])
    await writer.close()
    assert await store.size(UID, "x") == 200 * 65536
    assert most < 1 << 20
    await store.close()


async def test_B15_what_many_sandboxes_print_at_once_is_cut_before_it_fills_the_operators_memory(
    store: FsspecStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("corral.artifacts.fsspec_store._UNDER_WAY_BYTES", 1 << 20)
    rooms = [Room(1 << 30, 1 << 30, "loud")] * 5 + [Room(1 << 30, 1 << 30, "quiet")]
    printing = [
        Leaving(store, f"uid-{number}", "main", room, output_bytes=10, files_bytes=0)
        for number, room in enumerate(rooms)
    ]
    for leaving, room in zip(printing, rooms, strict=True):
        for seq in range(6 if room.holder == "loud" else 3):
            await leaving.take(Output(seq, 0.0, "stdout", "x" * 65536, "main"))
    execution = ExecutionStatus(name="main", tool="once", phase=Phase.SUCCEEDED, reason=Reason.COMPLETED)
    ended = [await leaving.ended(execution) for leaving in printing]
    assert [len(one.stored) for one in ended] == [1, 0, 0, 0, 0, 1]
    assert "of 1048576 bytes are on their way" in caplog.text
    # Those that have ended hold nothing any more.
    writer = await store.writer(UID, "x")
    await writer.write(LARGE[: 1 << 19])
    await writer.close()
    assert store._under_way.count == 0


async def test_B15_what_is_left_of_tasks_that_are_gone_is_swept_and_nothing_of_others(
    store: FsspecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_operator.control.artifacts._ORPHANS_AFTER", timedelta(seconds=-60))
    for uid in ("there", "gone", "deleted"):
        await store.put(uid, "x", b"x")
    artifacts = Artifacts(store, Clock(), Settings())
    artifacts.forget("deleted")
    await eventually_async(lambda: artifacts._work, lambda work: not work)
    await artifacts.sweep(lambda: False, lambda _uid: False)
    assert sorted(await store.tasks()) == ["gone", "there"]
    await artifacts.sweep(lambda: True, lambda uid: uid == "there")
    assert await store.tasks() == ["there"]


async def test_B15_a_sweep_looks_into_what_is_left_of_tasks_that_are_gone_and_into_no_other(
    store: FsspecStore,
) -> None:
    for uid in ("gone", "there", "there-too"):
        for number in range(20):
            await store.put(uid, f"x-{number}", b"x")
    looking = Failing(store, is_older=1)
    await Artifacts(looking, Clock(), Settings()).sweep(lambda: True, lambda uid: uid != "gone")
    assert looking._after == {"is_older": 0}
    # It has just come: its task may yet be made.
    assert sorted(await store.tasks()) == ["gone", "there", "there-too"]


async def test_B15_what_a_task_has_in_the_store_goes_when_the_task_goes(store: FsspecStore) -> None:
    server = ApiServer()
    stored = {"name": "stdout", "size": 1, "sha256": "0" * 64}
    execution = {"name": "main", "tool": "once", "phase": "Succeeded", "reason": "Completed"}
    ended = {"completionTime": "2026-01-01T12:00:00Z", "reason": "Completed"}
    for name in ("goes", "stays"):
        status = {**ended, "executions": [{**execution, "stored": [stored]}]}
        server.put(AGENT_TASKS, task_body({"tool": "once"}, status, name=name, uid=f"uid-{name}"))
        await store.put(f"uid-{name}", "stdout-main", b"x")
    async with running(server, artifacts=store, artifacts_url="s3://bucket") as replica:
        await eventually_async(lambda: replica.acts)
        body = server.objects["agenttasks", "team", "goes"]
        replica.operator.heard("DELETED", AGENT_TASKS, body)
        artifacts = replica.operator._artifacts
        await eventually_async(lambda: artifacts._work, lambda work: not work)
        assert await store.tasks() == ["uid-stays"]


@pytest.mark.parametrize("has_store", [True, False], ids=["a store", "none"])
async def test_B15_a_file_by_its_hash_is_refused_where_there_is_no_store(
    store: FsspecStore, *, has_store: bool
) -> None:
    server = ApiServer()
    file = {"path": "in", "artifact": f"sha256:{SHA256}"}
    server.put(AGENT_TASKS, task_body({"tool": "shell", "arguments": {"command": "true"}, "files": [file]}))
    given: dict[str, Any] = {"artifacts": store, "artifacts_url": "s3://bucket"} if has_store else {}
    async with running(server, **given) as replica:
        await eventually_async(lambda: replica.acts)
        if has_store:
            await eventually_async(lambda: server.asked("create", "pods"))
        else:
            status = await eventually_async(lambda: status_of(server), lambda one: "completionTime" in one)
            assert (status["reason"], server.asked("create", "pods")) == ("Unsupported", 0)
