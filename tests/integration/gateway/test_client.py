"""The Python client of a gateway, by real sockets: what it gives, what it survives, and what its errors say."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import corral
from corral.api import AgentTask, Frame, Output, Phase, Reason
from corral.client import build_task
from corral.client.gateway import (
    AnswerError,
    AsyncGatewayClient,
    ConflictError,
    ExecutionStarted,
    ForbiddenError,
    GatewayClient,
    GatewayError,
    GatewayFaultError,
    InvalidRequestError,
    NotFoundError,
    OutputPiece,
    RateLimitedError,
    TaskFinished,
    TimedOutError,
    UnauthenticatedError,
    UnreachableError,
)
from corral_gateway.identity.roles import Role
from eventually import eventually, eventually_async
from integration.gateway.cutting_proxy import proxied
from integration.gateway.running import CALCULATE
from integration.gateway.serving import new_key, serving

COUNT = "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; sleep 0.2; done"


@dataclass(frozen=True)
class Served:
    """A gateway that serves."""

    url: str
    directory: Path

    def key(self, caller: str, role: Role = Role.RUNNER) -> str:
        """Make a key."""
        return new_key(self.directory, caller, role)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("gateway")
    with serving(directory) as (url, _, _):
        yield Served(url, directory)


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> str:
    """A caller whom no other test is."""
    return re.sub(r"\W+", "-", request.node.name)[:60].strip("-_")


@pytest.fixture
def client(served: Served, caller: str) -> Iterator[GatewayClient]:
    with corral.connect(served.url, api_key=served.key(caller)) as made:
        yield made


# --- what it gives ---


def test_M13_a_program_moves_from_this_machine_to_a_gateway_by_the_environment(
    served: Served, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> list[tuple[object, object, str]]:
        with corral.connect() as client:
            tasks = [
                client.run("python", code="print('hi')\n6 * 7"),
                client.run("csv_query", {"query": "SELECT 1 AS n", "files": {}}, limits={"timeout": "20s"}),
                client.run(
                    "shell", command="echo $GREETING; cat a.txt", env={"GREETING": "hi"}, files={"a.txt": "x"}
                ),
                client.run("calculator", expression="1 / 0"),
            ]
        return [(task.result, task.reason, task.stdout) for task in tasks]

    here = asked()
    monkeypatch.setenv("CORRAL_GATEWAY", served.url)
    monkeypatch.setenv("CORRAL_API_KEY", served.key(caller))
    assert asked() == here
    assert corral.connect().__class__ is GatewayClient


def test_M13_three_lines_run_at_the_gateway_that_the_environment_names(served: Served, caller: str) -> None:
    program = "import corral\ntask = corral.run('python', code='6 * 7')\nprint(task.result)"
    env = {**os.environ, "CORRAL_GATEWAY": served.url, "CORRAL_API_KEY": served.key(caller)}
    words = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("42\n", "")
    with GatewayClient(served.url, api_key=env["CORRAL_API_KEY"]) as client:
        assert len(list(client.tasks())) == 1


def test_B8_events_are_typed_and_logs_are_their_text(client: GatewayClient) -> None:
    task = client.submit("shell", command="echo é1; echo err >&2; exit 3")
    assert task.reason is None
    uid = task.metadata.uid or ""
    events = list(client.events(uid))
    assert events[0] == ExecutionStarted(1, "main", 1)
    assert {(event.stream, event.data) for event in events if isinstance(event, OutputPiece)} == {
        ("stdout", "é1\n".encode()),
        ("stderr", b"err\n"),
    }
    assert isinstance(events[-1], TaskFinished)
    assert (events[-1].phase, events[-1].reason) == (Phase.FAILED, Reason.TOOL_ERROR)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert list(client.events(uid, after=2)) == events[2:]
    assert {(piece.stream, piece.text) for piece in client.logs(uid)} == {
        ("stdout", "é1\n"),
        ("stderr", "err\n"),
    }


def test_B8_what_is_there_so_far_is_read_without_waiting_for_the_end(client: GatewayClient) -> None:
    uid = client.submit("shell", command="echo begun; sleep 60").metadata.uid or ""
    eventually(lambda: "".join(piece.text for piece in client.logs(uid, follow=False)) == "begun\n")
    assert client.get(uid).reason is None
    client.cancel(uid)
    assert client.wait(uid).reason is Reason.CANCELLED


def test_B8_a_task_that_is_run_with_callbacks_tells_them_what_it_says(client: GatewayClient) -> None:
    heard: list[Frame] = []
    task = build_task("shell", {"command": "echo one; echo two > out.txt"}, outputs=["*.txt"])
    files: list[tuple[str, str, bytes]] = []
    ended = client.run_task(
        task,
        on_frame=lambda _, frame: heard.append(frame),
        on_file=lambda *file: files.append(file),
    )
    assert ended.succeeded
    assert b"".join(frame.raw for frame in heard if isinstance(frame, Output)) == b"one\n"
    assert files == [("main", "out.txt", b"two\n")]


def test_B15_files_of_any_size_go_in_and_come_back(client: GatewayClient) -> None:
    large = bytes(range(256)) * 4096
    task = client.run(
        "shell",
        command="cat large.bin small.txt > out/both.bin; echo hi > note.txt",
        files={"large.bin": large, "small.txt": "small\n", "out/.keep": b""},
        outputs=["out/*.bin", "*.txt"],
    )
    assert task.succeeded, task.status
    uid = task.metadata.uid or ""
    found = {(file.path, file.size, file.is_kept) for file in client.files(uid)}
    assert found == {("out/both.bin", len(large) + 6, True), ("note.txt", 3, True), ("small.txt", 6, True)}
    assert client.file(uid, "out/both.bin") == large + b"small\n"
    assert client.file(uid, "note.txt", execution="main") == b"hi\n"
    with pytest.raises(NotFoundError) as missing:
        client.file(uid, "large.txt")
    assert missing.value.reason == "FileNotFound"
    client.remove_files(uid)
    with pytest.raises(GatewayError) as gone:
        client.file(uid, "out/both.bin")
    assert gone.value.reason == "ArtifactGone"
    assert client.file(uid, "note.txt", execution="main") == b"hi\n"  # it stands in the status


def test_B15_a_task_with_files_is_made_once_though_its_answers_are_cut_off(
    served: Served, caller: str
) -> None:
    key = served.key(caller)
    files: list[tuple[str, bytes]] = []
    task = build_task("shell", {"command": "wc -c < in.bin > out.txt; cp in.bin out.bin"}, outputs=["out.*"])
    with proxied(served.url) as proxy, GatewayClient(proxy.url, api_key=key) as client:
        proxy.answers_to_swallow = 2
        ended = client.run_task(
            task, uploads={"in.bin": b"x" * 100_000}, on_file=lambda _, path, data: files.append((path, data))
        )
        assert ended.succeeded, ended.status
        assert len(list(client.tasks())) == 1
    assert sorted(files) == [("out.bin", b"x" * 100_000), ("out.txt", b"100000\n")]


def test_B15_results_that_are_too_large_for_a_status_come_whole(client: GatewayClient) -> None:
    steps = [
        {"name": f"s{number}", "tool": "python", "arguments": {"code": "'x' * 190_000"}}
        for number in range(5)
    ]
    chain = AgentTask.model_validate({"metadata": {"name": "large"}, "spec": {"steps": steps}})
    task = client.run_task(chain)
    assert task.succeeded, task.status
    assert [execution.result for execution in task.executions] == ["x" * 190_000] * 5
    as_it_stands = client.get(task.metadata.uid or "")
    assert None in [execution.result for execution in as_it_stands.executions]


def test_B15_output_that_is_too_large_for_a_status_can_be_had_whole(client: GatewayClient) -> None:
    printed = client.submit("python", code="print('y' * 200_000)")
    ended = client.wait(printed.metadata.uid or "")
    assert len(ended.stdout) < 200_000
    assert client.output(ended.metadata.uid or "", "stdout") == b"y" * 200_000 + b"\n"


def test_M5_tasks_are_listed_over_pages_and_narrowed(client: GatewayClient) -> None:
    for number in range(3):
        client.run("calculator", expression=f"{number}")
    client.run("shell", command="exit 1")
    assert [task.result for task in client.tasks(tool="calculator")] == [2, 1, 0]
    assert [task.spec.tool for task in client.tasks(most=2)] == ["shell", "calculator"]
    assert [task.spec.tool for task in client.tasks(reason=Reason.TOOL_ERROR)] == ["shell"]


def test_M5_pages_are_fetched_as_they_are_needed(
    client: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.client.gateway.talks._PAGE", 2)
    made = [client.run("calculator", expression=f"{number}").metadata.uid for number in range(5)]
    assert [task.metadata.uid for task in client.tasks()] == made[::-1]
    assert [task.metadata.uid for task in client.tasks(most=3)] == made[:1:-1]


def test_M7_tools_are_found_got_and_executed(client: GatewayClient) -> None:
    assert "csv-query" in {tool.name.replace("_", "-") for tool in client.tools("sql", max_results=2)}
    assert client.tool("calculator").spec.input_schema["required"] == ["expression"]
    assert client.execute("calculator", {"expression": "42 + 58"}).output == 100
    assert not client.execute("shell", {"command": "exit 3"}).success


async def test_M13_the_asynchronous_client_does_the_same(served: Served, caller: str) -> None:
    async with corral.connect_async(served.url, api_key=served.key(caller)) as client:
        tasks = await asyncio.gather(*(client.run("calculator", expression=f"{n} ** 2") for n in range(8)))
        assert [task.result for task in tasks] == [n**2 for n in range(8)]
        assert len([task async for task in client.tasks()]) == 8
        uid = (await client.submit("shell", command=COUNT)).metadata.uid or ""
        text = [piece.text async for piece in client.logs(uid) if piece.stream == "stdout"]
        assert "".join(text) == "1\n2\n3\n4\n5\n"
        assert (await client.wait(uid)).succeeded


async def test_B8_a_reader_that_stops_early_leaves_nothing_open(served: Served, caller: str) -> None:
    async with corral.connect_async(served.url, api_key=served.key(caller)) as client:
        uid = (await client.submit("shell", command=COUNT)).metadata.uid or ""
        async with aclosing(client.events(uid)) as events:
            assert isinstance(await anext(events), ExecutionStarted)
        assert not [one for one in client._http._transport._pool.connections if not one.is_idle()]


# --- what ends a run ---


async def test_M1_whoever_cancels_the_waiting_ends_the_task(served: Served, caller: str) -> None:
    async with corral.connect_async(served.url, api_key=served.key(caller)) as client:
        for callback in (None, lambda _name, _frame: None):
            task = build_task("shell", {"command": "echo begun; sleep 60"})
            waiting = asyncio.create_task(client.run_task(task, on_frame=callback))

            async def running() -> list[AgentTask]:
                return [one async for one in client.tasks() if one.reason is None]

            while not await running():
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            (newest,) = [one async for one in client.tasks(most=1)]
            assert (await client.wait(newest.metadata.uid or "")).reason is Reason.CANCELLED


async def test_M1_a_cancelled_task_comes_back_with_its_output_so_far(served: Served, caller: str) -> None:
    async with corral.connect_async(served.url, api_key=served.key(caller)) as client:
        cancel = asyncio.Event()
        ended = await client.run_task(
            build_task("shell", {"command": "echo begun; sleep 60"}),
            on_frame=lambda _, frame: cancel.set() if isinstance(frame, Output) else None,
            cancel=cancel,
        )
        assert (ended.reason, ended.stdout) == (Reason.CANCELLED, "begun\n")
        before = len([task async for task in client.tasks()])
        never = await client.run_task(build_task("calculator", {"expression": "1"}), cancel=cancel)
        assert never.reason is Reason.CANCELLED
        assert len([task async for task in client.tasks()]) == before


def test_M2_time_that_is_over_ends_the_run_and_its_task(client: GatewayClient) -> None:
    with pytest.raises(TimedOutError) as raised:
        client.run("shell", command="sleep 60", timeout=2)
    assert raised.value.task_id is not None
    assert client.wait(raised.value.task_id).reason is Reason.CANCELLED
    assert isinstance(raised.value, TimeoutError)


def test_M2_time_that_is_over_ends_a_waiting_and_not_its_task(client: GatewayClient) -> None:
    uid = client.submit("shell", command="sleep 60").metadata.uid or ""
    with pytest.raises(TimedOutError):
        client.wait(uid, timeout=0.5)
    assert client.get(uid).reason is None
    client.cancel(uid)


# --- what it survives ---


def test_B1_a_task_is_made_once_though_its_answers_are_cut_off(served: Served, caller: str) -> None:
    key = served.key(caller)
    with proxied(served.url) as proxy, GatewayClient(proxy.url, api_key=key) as client:
        proxy.answers_to_swallow = 3
        assert client.run("calculator", expression="6 * 7").result == 42
        assert proxy.cuts == 3
        assert len(list(client.tasks())) == 1
        # What it would be without the key that the client makes: each sending that arrived is a task.
        proxy.answers_to_swallow = 3
        headers = {"Authorization": f"Bearer {key}"}
        for _ in range(3):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(f"{proxy.url}/v1/tasks", json=CALCULATE, headers=headers, timeout=60)
        eventually(lambda: len(list(client.tasks())) == 4)


def test_B1_a_tool_is_executed_once_though_its_answers_are_cut_off(served: Served, caller: str) -> None:
    with proxied(served.url) as proxy, GatewayClient(proxy.url, api_key=served.key(caller)) as client:
        proxy.answers_to_swallow = 2
        assert client.execute("calculator", {"expression": "6 * 7"}).output == 42
        assert proxy.cuts == 2
        assert len(list(client.tasks())) == 1


@pytest.mark.parametrize("size", [300, 700, 1500])
def test_B8_a_stream_that_is_cut_again_and_again_is_read_whole(
    served: Served, caller: str, size: int
) -> None:
    key = served.key(caller)
    with proxied(served.url) as proxy, GatewayClient(proxy.url, api_key=key) as client:
        uid = client.submit("shell", command=COUNT).metadata.uid or ""
        # More than the headers of an answer, less than the stream.
        proxy.bytes_until_cut = 450 + size
        events = list(client.events(uid))
        proxy.bytes_until_cut = None
        assert events == list(client.events(uid))
        assert proxy.cuts >= 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    printed = b"".join(
        event.data for event in events if isinstance(event, OutputPiece) and event.stream == "stdout"
    )
    assert printed == b"1\n2\n3\n4\n5\n"


def _killed_and_started_again(
    directory: Path, use: Callable[[GatewayClient, str, threading.Event], object]
) -> tuple[object, AgentTask]:
    """Kill a gateway while a client uses it, start it again, and return what the client got, and the task."""
    with serving(directory) as (url, _, process), GatewayClient(url, api_key=new_key(directory)) as client:
        uid = client.submit("shell", command="echo begun; sleep 60").metadata.uid or ""
        under_way = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            using = pool.submit(use, client, uid, under_way)
            assert under_way.wait(60)
            process.kill()
            process.wait()
            with serving(directory, PORT=str(urlsplit(url).port)):
                return using.result(100), client.get(uid)


def test_B8_a_stream_goes_on_after_the_gateway_was_killed_and_started_again(tmp_path: Path) -> None:
    def follow(client: GatewayClient, uid: str, under_way: threading.Event) -> object:
        events = []
        for event in client.events(uid):
            events.append(event)
            if isinstance(event, OutputPiece):
                under_way.set()
        return events

    events, task = _killed_and_started_again(tmp_path, follow)
    assert isinstance(events, list)
    assert task.reason is Reason.SANDBOX_FAILED
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert b"".join(event.data for event in events if isinstance(event, OutputPiece)) == b"begun\n"
    assert isinstance(events[-1], TaskFinished)
    assert events[-1].reason is Reason.SANDBOX_FAILED


def test_B13_a_waiting_goes_on_after_the_gateway_was_killed_and_started_again(tmp_path: Path) -> None:
    def wait(client: GatewayClient, uid: str, under_way: threading.Event) -> object:
        eventually(lambda: list(client.events(uid, follow=False)))
        under_way.set()
        return client.wait(uid)

    waited, task = _killed_and_started_again(tmp_path, wait)
    assert waited == task
    assert task.reason is Reason.SANDBOX_FAILED


def test_M6_who_asks_too_often_is_served_after_the_time_that_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, CORRAL_RATE_LIMIT_CALLER="3/second") as (url, _, _):
        key = new_key(tmp_path)
        with GatewayClient(url, api_key=key) as client:
            assert [client.tool("calculator").name for _ in range(8)] == ["calculator"] * 8
        with GatewayClient(url, api_key=key, patience_seconds=0) as client:

            def refused() -> GatewayError | None:
                try:
                    client.tool("calculator")
                except RateLimitedError as error:
                    return error
                return None

            error = eventually(refused)
            assert error is not None
            assert (error.status, error.reason) == (429, "RateLimited")
            assert error.retry_after_seconds is not None
            assert error.retry_after_seconds >= 1


# --- what its errors say ---


def test_M5_each_refusal_has_a_class_a_reason_and_what_to_do(served: Served, client: GatewayClient) -> None:
    with pytest.raises(NotFoundError) as missing:
        client.get("no-such-task")
    assert (missing.value.status, missing.value.reason) == (404, "TaskNotFound")
    assert missing.value.request_id
    with pytest.raises(NotFoundError, match='did you mean "calculator"'):
        client.tool("calculater")
    task = build_task("calculator", {"expression": "1"})
    task = task.model_copy(update={"spec": task.spec.model_copy(update={"env": ("x",)})})
    with pytest.raises(InvalidRequestError) as invalid, pytest.warns(UserWarning, match="serializ"):
        client.submit_task(task)
    assert (invalid.value.status, invalid.value.reason) == (422, "InvalidSpec")
    assert [problem.path for problem in invalid.value.problems] == ["spec.env[0]"]
    with GatewayClient(served.url, api_key="corral_000000000000_nothing") as nobody:
        with pytest.raises(UnauthenticatedError) as closed:
            nobody.tools()
        assert "corral keys create" in (closed.value.remedy or "")
        assert "nothing" not in str(closed.value)
    with GatewayClient(served.url, api_key=served.key("viewer", Role.VIEWER)) as viewer:
        assert viewer.tools()
        with pytest.raises(ForbiddenError):
            viewer.run("calculator", expression="1")


def test_B1_a_key_that_was_used_for_another_request_is_a_conflict(client: GatewayClient) -> None:
    def task(expression: str) -> AgentTask:
        made = build_task("calculator", {"expression": expression})
        return made.model_copy(update={"spec": made.spec.model_copy(update={"idempotency_key": "k"})})

    first = client.run_task(task("1"))
    assert client.run_task(task("1")).metadata.uid == first.metadata.uid
    with pytest.raises(ConflictError) as raised:
        client.run_task(task("2"))
    assert raised.value.reason == "IdempotencyKeyUsed"


def test_M5_a_gateway_that_is_not_there_and_one_that_is_none_say_so() -> None:
    with (
        GatewayClient("http://127.0.0.1:1", api_key="x", patience_seconds=0.2) as client,
        pytest.raises(UnreachableError, match="corral serve"),
    ):
        client.tools()


class _Other(BaseHTTPRequestHandler):
    """Something at that address that is no gateway."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.rsplit("/", 1)[1]))
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"<html")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, AnswerError), (302, AnswerError), (404, NotFoundError), (500, GatewayFaultError)],
)
def test_M5_what_is_no_gateway_is_told_to_be_none(status: int, kind: type[GatewayError]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with GatewayClient(url, api_key="x") as client, pytest.raises(kind) as raised:
            client.tool(str(status))
        server.shutdown()
    assert "whether the URL is" in (raised.value.remedy or "")


def test_M5_the_client_shows_no_key(served: Served) -> None:
    key = served.key("secretive")
    with GatewayClient(served.url, api_key=key) as client:
        assert key not in repr(client) + repr(vars(client)) + repr(client._http.headers)


async def test_M13_one_asynchronous_client_serves_many_at_once(served: Served, caller: str) -> None:
    async with AsyncGatewayClient(served.url, api_key=served.key(caller)) as client:
        first = await client.submit("shell", command="sleep 60")
        waiting = asyncio.create_task(client.wait(first.metadata.uid or ""))
        assert (await client.run("calculator", expression="1 + 1")).result == 2
        assert not waiting.done()
        await client.cancel(first.metadata.uid or "")
        await eventually_async(waiting.done)
        assert waiting.result().reason is Reason.CANCELLED
