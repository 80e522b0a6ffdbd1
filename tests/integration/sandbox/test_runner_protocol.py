"""The runner's protocol on a listening socket: who may do what, what survives, what is refused."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventually import eventually_async
from integration.sandbox.serving import READ_TOKEN, START_TOKEN, Peer, Serving, sequence, start_request
from sandboxes import function, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def runner(tmp_path: Path) -> AsyncIterator[Serving]:
    async with Serving.started(tmp_path) as serving:
        yield serving


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """One runner for all that is refused anyway."""
    async with Serving.started(tmp_path_factory.mktemp("runner")) as serving:
        yield serving


async def test_the_start_token_may_do_everything(runner: Serving) -> None:
    peer = await runner.peer()
    await peer.send(op="follow")
    await peer.send(**start_request(shell("echo hello")))
    frames = await peer.until("result")
    assert [frame["type"] for frame in frames] == ["ready", "started", "stdout", "result"]
    assert frames[-1]["reason"] == "Completed"
    assert sequence(frames) == [0, 1, 2, 3]
    await peer.close()


@pytest.mark.parametrize("operation", ["start", "cancel", "put", "get", "release"])
async def test_the_read_token_may_only_follow(shared: Serving, operation: str) -> None:
    peer = await shared.peer(READ_TOKEN)
    await peer.send(**{**start_request(shell("echo no")), "op": operation, "path": "x", "data": ""})
    assert (await peer.next())["code"] == "Forbidden"
    await peer.send(op="follow")
    assert (await peer.next())["type"] == "ready"
    await peer.close()


@pytest.mark.parametrize("nonce", ["", "5f1c", "x" * 10_000, "wörld"])
async def test_the_runner_proves_to_whoever_asks_that_it_knows_the_hash_of_its_token(
    shared: Serving, nonce: str
) -> None:
    peer = await shared.peer(None)
    await peer.send(op="prove", nonce=nonce)
    key = hashlib.sha256(START_TOKEN.encode()).hexdigest().encode()
    proof = hmac.new(key, b"runner/" + nonce.encode(), "sha256").hexdigest()
    assert await peer.next() == {"type": "proof", "proof": proof}
    await peer.send(op="describe")
    assert (await peer.next())["code"] == "Unauthenticated", "to ask opens nothing"
    await peer.close()


@pytest.mark.parametrize("token", ["", "start", "start-7f3b", "x" * 10_000, "\ud800"])
async def test_a_wrong_token_opens_nothing(shared: Serving, token: str) -> None:
    peer = await shared.peer(None)
    await peer.send_line(json.dumps({"op": "hello", "token": token}).encode())
    assert (await peer.next())["code"] in {"Unauthenticated", "MalformedRequest"}
    for request in ({"op": "follow"}, start_request(shell("echo no")), {"op": "release"}):
        await peer.send(**request)
        assert (await peer.next())["code"] == "Unauthenticated"
    await peer.close()


async def test_B8_a_cut_connection_goes_on_where_it_was(runner: Serving) -> None:
    first = await runner.peer()
    await first.send(op="follow")
    await first.send(**start_request(shell("for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.05; done")))
    seen = await first.until("stdout")
    await first.close()
    second = await runner.peer(READ_TOKEN)
    await second.send(**{"op": "follow", "from": seen[-1]["seq"] + 1})
    seen += await second.until("result")
    assert sequence(seen) == list(range(len(seen)))
    assert "".join(frame.get("data", "") for frame in seen) == "1\n2\n3\n4\n5\n6\n7\n8\n"
    await second.close()


async def test_the_same_start_again_starts_nothing(runner: Serving) -> None:
    request = start_request(shell("echo run >> runs; echo done"))
    peer = await runner.peer()
    await peer.send(op="follow")
    for _ in range(3):
        await peer.send(**request)
    frames = await peer.until("result")
    again = await runner.peer()
    await again.send(op="follow")
    await again.send(**request)
    assert await again.until("result") == frames
    assert (runner.workspace / "runs").read_text() == "run\n"
    for each in (peer, again):
        await each.close()


async def test_another_owner_is_refused(runner: Serving) -> None:
    peer = await runner.peer()
    await peer.send(**start_request(shell("until [ -e answered ]; do sleep 0.01; done; echo mine")))
    for other in (
        start_request(shell("echo no"), uid="other"),
        start_request(shell("echo no"), ident="two", uid="other"),
    ):
        await peer.send(**other)
        assert (await peer.next())["code"] == "OwnedByAnother"
    await peer.send(**{**start_request(shell("echo no")), "owner": {"uid": "owner", "attempt": 2}})
    assert (await peer.next())["code"] == "OwnedByAnother"
    await peer.send(**start_request(shell("echo no"), ident="two"))
    assert (await peer.next())["code"] == "Busy"
    (runner.workspace / "answered").touch()
    await peer.send(op="follow")
    frames = await peer.until("result")
    assert "".join(frame.get("data", "") for frame in frames) == "mine\n"
    await peer.close()


async def test_B16_executions_of_one_owner_share_a_workspace(runner: Serving) -> None:
    peer = await runner.peer()
    await peer.send(op="follow")
    seen: list[dict[str, Any]] = []
    for number in range(5):
        await peer.send(**start_request(shell("echo line >> log; wc -l < log"), ident=f"e{number}"))
        seen += await peer.until("result", execution=f"e{number}")
    assert [frame["data"] for frame in seen if frame["type"] == "stdout"] == [f"{n}\n" for n in range(1, 6)]
    assert sequence(seen) == list(range(len(seen)))
    await peer.close()


async def test_a_reader_that_does_not_read_keeps_nobody(runner: Serving) -> None:
    lazy = await runner.peer(READ_TOKEN)
    await lazy.send(op="follow")
    lazy.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer = await runner.peer()
    await peer.send(op="follow")
    limits = {"outputBytes": 8 << 20}
    await peer.send(**start_request(shell("head -c 8000000 /dev/zero | tr '\\0' x"), limits=limits))
    frames = await peer.until("result")
    assert frames[-1]["reason"] == "Completed"
    lazy.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await lazy.until("result") == frames
    for each in (lazy, peer):
        await each.close()


async def test_a_peer_that_asks_and_does_not_read_costs_no_memory(runner: Serving) -> None:
    """Each malformed line has an answer longer than itself."""
    flooding = await runner.peer()
    flooding.writer.transport.pause_reading()  # type: ignore[attr-defined]
    flooding.writer.write(b"\n" * 2_000_000)
    peer = await runner.peer()
    await peer.send(op="follow")
    await peer.send(**start_request(shell("echo unharmed")))
    assert (await peer.until("result"))[-1]["reason"] == "Completed"
    with open(f"/proc/{runner.process.pid}/statm", "rb") as file:
        resident_pages = int(file.read().split()[1])
    assert resident_pages * 4096 < 100 << 20
    for each in (flooding, peer):
        each.writer.transport.abort()


async def test_more_connections_than_there_is_room_for_push_the_unknown_out(runner: Serving) -> None:
    known = await runner.peer()
    await known.send(op="follow")
    assert (await known.next())["type"] == "ready"
    unknown = [await runner.peer(None) for _ in range(100)]
    assert await unknown[0].is_dropped()
    await known.send(**start_request(shell("echo unharmed")))
    assert (await known.until("result"))[-1]["reason"] == "Completed"
    for each in (known, *unknown):
        await each.close()


def call_own_runner(path: str, tokens: list[str]) -> list[str]:
    """Speak to the runner from inside, as its own owner."""
    import json
    import socket

    answers = []
    for token in tokens:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            try:
                peer.sendall(json.dumps({"op": "hello", "token": token}).encode() + b'\n{"op":"follow"}\n')
                answers.append(peer.recv(100).decode())
            except ConnectionError as error:
                answers.append(type(error).__name__)
    return answers


async def test_a_tool_cannot_speak_to_its_own_runner(runner: Serving) -> None:
    """Not even with the token: with it, it could start itself again without limits."""
    peer = await runner.peer()
    await peer.send(op="follow")
    arguments = {"path": str(runner.path), "tokens": ["start-7f3a", READ_TOKEN, "wrong"]}
    await peer.send(**start_request(function(call_own_runner), arguments=arguments))
    result = (await peer.until("result"))[-1]
    assert result["reason"] == "Completed", result
    assert set(result["result"]) <= {"", "ConnectionResetError", "BrokenPipeError"}
    await peer.close()


def look_for(texts: list[str]) -> dict[str, list[str]]:
    """Say where in this process the texts are, other than in this function's own arguments."""
    import os

    found: dict[str, list[str]] = {}
    for place in ("environ", "cmdline"):
        with open(f"/proc/self/{place}", "rb") as file:
            content = file.read()
        found[place] = [text for text in texts if text.encode() in content]
    found["variables"] = [text for text in texts if any(text in value for value in os.environ.values())]
    return found


async def test_M5_neither_token_is_in_the_tool_s_environment(runner: Serving) -> None:
    peer = await runner.peer()
    await peer.send(op="follow")
    # Split, so that the request itself does not hold them in one piece.
    await peer.send(**start_request(function(look_for), arguments={"texts": ["start-7f3a", READ_TOKEN]}))
    result = (await peer.until("result"))[-1]
    assert result["result"] == {"environ": [], "cmdline": [], "variables": []}, result
    await peer.close()


@pytest.mark.parametrize(("name", "fitting"), [("a", 1000), ("\u0436" * 120, 360)], ids=["short", "long"])
async def test_a_result_names_as_many_files_as_fit_into_a_line(
    runner: Serving, name: str, fitting: int
) -> None:
    peer = await runner.peer()
    await peer.send(op="follow")
    code = (
        f"def main():\n  for n in range(1010): open(f'{name}{{n:04}}', 'w').close()\n  return 'x' * 250_000"
    )
    run = {"function": {"code": code, "entrypoint": "main"}}
    await peer.send(**start_request(run, outputs=["*"], outputsLimitBytes=1 << 20))
    result = (await peer.until("result"))[-1]
    assert result["reason"] == "Completed"
    assert len(json.dumps(result)) < 1 << 20
    *sent, last = result["files"]
    assert (len(sent), any("skipped" in file for file in sent)) == (fitting, False)
    assert (
        last["skipped"] == f"{1010 - fitting} more files match, and no more than {fitting} fit into a result"
    )
    await peer.close()


# --- what is no request ---

NO_REQUESTS = {
    "empty": b"",
    "text": b"hello",
    "null": b"null",
    "number": b"1",
    "list": b"[]",
    "object": b"{}",
    "two": b'{"op":"follow"}{"op":"follow"}',
    "op_number": b'{"op":1}',
    "op_list": b'{"op":[]}',
    "op_object": b'{"op":{}}',
    "unknown": b'{"op":"explode"}',
    "unknown_long": b'{"op":"' + b"x" * 500_000 + b'"}',
    "nul": b'{"op":"\0"}',
    "nul_escaped": b'{"op":"\\u0000"}',
    "surrogate": b'{"op":"\\ud800"}',
    "not_utf8": b'{"op":"\xff\xfe"}',
    "deep_lists": b"[" * 100_000,
    "deep_objects": b'{"op":' * 100_000,
    "deep_and_whole": b"[" * 50_000 + b"]" * 50_000,
    "nan": b'{"op":"follow","from":NaN}',
    "infinity": b'{"op":"follow","from":1e999}',
    "from_text": b'{"op":"follow","from":"x"}',
    "from_list": b'{"op":"follow","from":[]}',
    "huge_number": b'{"op":"follow","from":' + b"9" * 5000 + b"}",
    "hello_without_token": b'{"op":"hello"}',
    "prove_without_nonce": b'{"op":"prove"}',
    "prove_surrogate": b'{"op":"prove","nonce":"\\ud800"}',
    "put_without_path": b'{"op":"put","data":""}',
    "put_without_data": b'{"op":"put","path":"x"}',
    "put_number": b'{"op":"put","path":"x","data":1}',
    "put_no_base64": b'{"op":"put","path":"x","data":"A"}',
    "put_mode": b'{"op":"put","path":"x","data":"","mode":1e999}',
    "put_huge_mode": b'{"op":"put","path":"x","data":"","mode":"rwx"}',
    "put_outside": b'{"op":"put","path":"../x","data":""}',
    "put_absolute": b'{"op":"put","path":"/tmp/x","data":""}',
    "put_nul": b'{"op":"put","path":"a\\u0000b","data":""}',
    "put_surrogate": b'{"op":"put","path":"\\ud800","data":""}',
    "put_long": b'{"op":"put","path":"' + b"x" * 5000 + b'","data":""}',
    "get_missing": b'{"op":"get","path":"nothing"}',
    "get_outside": b'{"op":"get","path":"../../etc/passwd"}',
    "get_without_path": b'{"op":"get"}',
    "start_empty": b'{"op":"start"}',
    "start_null": b'{"op":"start","owner":null,"execution":null}',
    "start_lists": b'{"op":"start","owner":[],"execution":[]}',
    "start_texts": b'{"op":"start","owner":"x","execution":"y"}',
}


@pytest.mark.parametrize("case", NO_REQUESTS)
async def test_what_is_no_request_gets_a_typed_answer(shared: Serving, case: str) -> None:
    peer = await shared.peer()
    await peer.send_line(NO_REQUESTS[case])
    answer = await peer.next()
    assert (answer["type"], bool(answer["code"])) == ("error", True)
    assert len(answer["message"]) <= 1000
    # The same connection serves on.
    await peer.send(op="follow")
    assert (await peer.next())["type"] == "ready"
    await peer.close()


async def test_a_line_without_end_is_cut_off(shared: Serving) -> None:
    peer = await shared.peer()
    peer.writer.write(b"x" * (3 << 20))
    assert (await peer.next())["code"] == "LineTooLong"
    assert await peer.is_dropped()
    await peer.close()


WRONG = [None, True, -1, 0, 1.5, 1e308, "", "x", [], {}, [None], {"a": None}, ["\0"], "\ud800"]
FIELDS = [
    *("id", "run", "arguments", "limits", "env", "network", "allowedPaths", "permissions", "outputs"),
    *("outputsLimitBytes", "limits.cpu", "limits.cpuSeconds", "limits.memoryBytes", "limits.processes"),
    *(
        "limits.diskBytes",
        "limits.fileSizeBytes",
        "limits.openFiles",
        "limits.outputBytes",
        "limits.resultBytes",
    ),
    *("limits.wallSeconds", "limits.idleSeconds", "run.stdin", "run.command", "env.NAME"),
]


@pytest.mark.parametrize("field", FIELDS)
async def test_a_wrong_field_is_refused_or_runs_and_never_ends_the_runner(
    runner: Serving, field: str
) -> None:
    peer = await runner.peer()
    await peer.send(op="follow")
    assert (await peer.next())["type"] == "ready"
    for number, value in enumerate(WRONG):
        ident = f"e{number}"
        request = start_request(shell("exit 0"), ident)
        outer, _, inner = field.partition(".")
        if inner:
            request["execution"].setdefault(outer, {})[inner] = value
        else:
            request["execution"][field] = value
        ident = request["execution"]["id"]
        await peer.send(**request)
        answer = await peer.next()
        while answer["type"] not in {"error", "result"}:
            answer = await peer.next()
        assert answer.get("code", "MalformedRequest") == "MalformedRequest", (value, answer)
    # What was refused has not used anything up.
    await peer.send(**start_request(shell("echo alive"), "last"))
    assert (await peer.until("result", execution="last"))[-1]["reason"] == "Completed"
    await peer.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
#: One runner serves all examples, and a busy machine is slow.
CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
operations = st.sampled_from(["hello", "follow", "put", "get", "cancel", "start", "explode"])
requests = st.dictionaries(
    st.sampled_from(["owner", "execution", "path", "data", "mode", "from", "token", "append"]), json_values
)


@settings(max_examples=150, deadline=None, suppress_health_check=CHECKS)
@given(operation=operations, request_=requests)
async def test_any_json_object_is_answered_or_obeyed(
    shared: Serving, operation: str, request_: dict[str, Any]
) -> None:
    peer = await shared.peer()
    await peer.send(**{**request_, "op": operation})
    await still_serves(peer)


@settings(max_examples=150, deadline=None, suppress_health_check=CHECKS)
@given(line=st.binary(max_size=300).filter(lambda line: b"\n" not in line))
async def test_any_bytes_are_answered(shared: Serving, line: bytes) -> None:
    peer = await shared.peer()
    await peer.send_line(line)
    await still_serves(peer)


async def still_serves(peer: Peer) -> None:
    await peer.send(op="follow")
    await peer.until("ready")
    await peer.close()


async def test_a_released_runner_ends(tmp_path: Path) -> None:
    async with Serving.started(tmp_path) as runner:
        peer = await runner.peer()
        await peer.send(**start_request(shell("sleep 60")))
        await peer.send(op="release")
        await eventually_async(lambda: runner.process.poll() is not None)
        runner.process.poll = lambda: None  # type: ignore[method-assign]  # it was told to
        await peer.close()
