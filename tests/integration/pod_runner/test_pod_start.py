"""A task on a pod that waits: what it is told, what it finds, and what the container does not let the runner have."""

import base64
import json
from typing import Any

import pytest

from integration.pod_runner import pod_network
from integration.pod_runner.pods import Container, Pod
from integration.sandbox.serving import Peer, start_request
from sandboxes import function, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "open-sesame-4711"


async def outcome(peer: Peer, run: dict[str, Any], ident: str = "one", **fields: Any) -> dict[str, Any]:
    """Run one execution; return its result, with what it printed as ``stdout``."""
    await peer.send(op="follow")
    await peer.send(**start_request(run, ident, **fields))
    frames: list[dict[str, Any]] = []
    while not frames or (frames[-1]["type"], frames[-1].get("execution")) != ("result", ident):
        frames.append(await peer.next())
        assert frames[-1]["type"] != "error", frames[-1]
    printed = [frame["data"] for frame in frames if frame["type"] == "stdout" and frame["execution"] == ident]
    return {**frames[-1], "stdout": "".join(printed)}


async def test_B7_files_and_start_in_one_write_need_no_answer_in_between() -> None:
    async with Pod.started() as pod:
        peer = await pod.peer()
        await peer.send(op="follow")
        await peer.until("ready")
        data = base64.b64encode(b"late").decode()
        requests = [
            *({"op": "put", "path": f"in/{number}", "data": data, "mode": 0o600} for number in range(20)),
            start_request(shell("cat in/* | wc -c; echo $WHAT; id -u; pwd"), env={"WHAT": "bound"}),
        ]
        await peer.send_line(b"\n".join(json.dumps(request).encode() for request in requests))
        frames = await peer.until("result")
    assert frames[-1]["reason"] == "Completed"
    assert "".join(frame.get("data", "") for frame in frames).split() == [
        "80",
        "bound",
        "65532",
        "/workspace",
    ]


async def test_B7_a_runner_listens_on_a_pod_address_of_version_6() -> None:
    async with Pod.started(Container(host=pod_network.POD6)) as pod:
        assert (await outcome(await pod.peer(), shell("echo six")))["stdout"] == "six\n"


async def test_M3_a_tool_cannot_speak_to_its_own_runner() -> None:
    def call_home() -> list[str]:
        import socket

        found = []
        for host in ("10.7.0.1", "127.0.0.1"):
            try:
                with socket.create_connection((host, 7070), timeout=5) as home:
                    home.sendall(b'{"op":"hello","token":"start-7f3a"}\n{"op":"describe"}\n')
                    found.append(repr(home.recv(100)))
            except OSError as error:
                found.append(type(error).__name__)
        return found

    async with Pod.started() as pod:
        result = await outcome(await pod.peer(), function(call_home), network="open")
    assert [found in {"b''", "ConnectionResetError"} for found in result["result"][:1]] == [True]
    assert result["result"][1] == "ConnectionRefusedError"


async def test_B11_a_tool_gets_the_secrets_its_task_names_and_no_other_trace_of_the_environment() -> None:
    def look(halves: list[list[str]]) -> dict[str, Any]:
        import os

        def holds(content: bytes, half: str, backwards: str) -> bool:
            # This tool's own memory holds what it looks for in two parts, one of them backwards.
            parts = content.split(half.encode())[1:]
            return any(part[: len(backwards)][::-1] == backwards.encode() for part in parts)

        with open("/proc/self/environ", "rb") as file:
            environ = file.read()
        found = set()
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps:
                place, rights = line.split()[:2]
                start, end = (int(part, 16) for part in place.split("-"))
                if rights[:2] != "rw":
                    continue
                memory.seek(start)
                try:
                    content = memory.read(end - start)
                except OSError:
                    continue
                found |= {half for half, backwards in halves if holds(content, half, backwards)}
        names = [name for name in os.environ if name.startswith(("CORRAL_", "KUBERNETES_"))]
        return {
            "names": names,
            "given": os.environ["GIVEN"],
            "environ": environ.strip(b"\0").decode(),
            "memory": sorted(found),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
        }

    other = "shibboleth-of-another"
    env = {"CORRAL_SECRET_GIVEN": SECRET, "CORRAL_SECRET_OTHER": other}
    async with Pod.started(Container(env=env)) as pod:
        result = await outcome(
            await pod.peer(),
            function(look),
            arguments={"halves": [[word[:6], word[6:][::-1]] for word in (SECRET, other, "10.96.0.1")]},
            secretEnv=["GIVEN"],
        )
    assert (result["reason"], result["error"]) == ("Completed", None)
    assert result["result"] == {
        "names": ["CORRAL_SANDBOX"],
        "given": SECRET,
        "environ": "",
        # Its own secret is, of course.
        "memory": [SECRET[:6]],
        # What it opened to look is the fifth.
        "descriptors": ["0", "1", "2", "3", "4"],
    }


async def test_B11_a_program_gets_the_secrets_too() -> None:
    async with Pod.started(Container(env={"CORRAL_SECRET_A": SECRET, "CORRAL_SECRET_B": "b"})) as pod:
        result = await outcome(await pod.peer(), shell("echo $A,$B"), secretEnv=["A"])
    assert result["stdout"] == f"{SECRET},\n"


@pytest.mark.parametrize(
    ("fields", "code", "part"),
    [
        ({"secretEnv": ["ABSENT"]}, "SecretMissing", "'ABSENT'"),
        ({"secretEnv": ["A", "ABSENT"]}, "SecretMissing", "'ABSENT'"),
        ({"secretEnv": ["A"], "env": {"A": "x"}}, "MalformedRequest", "env, too"),
        ({"secretEnv": "A"}, "MalformedRequest", "secretEnv"),
        ({"secretEnv": ["A=B"]}, "MalformedRequest", "secretEnv"),
        ({"refusedFirst": {"host": "10.7.0.2", "port": 1, "withinSeconds": 1}}, "MalformedRequest", "open"),
        (
            {"network": "open", "refusedFirst": {"host": "name", "port": 1, "withinSeconds": 1}},
            "MalformedRequest",
            "address",
        ),
        (
            {"network": "open", "refusedFirst": {"host": "::1", "port": 0, "withinSeconds": 1}},
            "MalformedRequest",
            "port",
        ),
        (
            {"network": "open", "refusedFirst": {"host": "::1", "port": 1, "withinSeconds": -1}},
            "MalformedRequest",
            "withinSeconds",
        ),
    ],
)
async def test_B11_what_cannot_be_had_is_refused_and_nothing_runs(
    fields: dict[str, Any], code: str, part: str
) -> None:
    async with Pod.started(Container(env={"CORRAL_SECRET_A": SECRET})) as pod:
        peer = await pod.peer()
        await peer.send(**start_request(shell("echo never"), **fields))
        refusal = await peer.next()
        assert (refusal["type"], refusal["code"], part in refusal["message"]) == ("error", code, True)
        # Its owner may ask for something else.
        assert (await outcome(peer, shell("echo $A"), secretEnv=["A"]))["stdout"] == f"{SECRET}\n"


async def test_M12_ready_names_what_is_around_the_runner_and_what_is_not() -> None:
    async with Pod.started() as pod:
        peer = await pod.reader()
        await peer.send(op="follow")
        ready = await peer.next()
    around = ["pidns", "mountns", "netns", "ipcns", "utsns"]
    assert ready["isolation"] == [*around, "rlimits", "seccomp", "landlock"]
    assert ready["weakened"] == ["ceilings"]


async def test_M12_a_container_that_refuses_landlock_is_weaker_and_works() -> None:
    async with Pod.started(Container(refuses=["no-landlock"])) as pod:
        peer = await pod.peer()
        await peer.send(op="follow")
        ready = await peer.next()
        refused = start_request(shell("echo"), "paths", allowedPaths=["in"])
        await peer.send(**refused)
        refusal = await peer.next()
        result = await outcome(peer, shell("echo works"))
    assert ready["isolation"][5:] == ["rlimits", "seccomp"]
    assert ready["weakened"] == ["ceilings", "landlock"]
    assert (refusal["code"], "Landlock" in refusal["message"]) == ("Unsupported", True)
    assert result["stdout"] == "works\n"


async def test_M12_a_container_that_refuses_filters_runs_nothing() -> None:
    async with Pod.started(Container(refuses=["no-seccomp"])) as pod:
        peer = await pod.peer()
        await peer.send(op="follow")
        ready = await peer.next()
        await peer.send(**start_request(shell("echo")))
        refusal = await peer.next()
    assert ready["isolation"][5:] == ["rlimits", "landlock"]
    assert ready["weakened"] == ["ceilings", "seccomp", "seccomp-notifications"]
    assert (refusal["code"], "seccomp" in refusal["message"]) == ("Unsupported", True)


async def test_M12_a_container_that_has_taken_the_listener_for_itself_is_weaker_and_works() -> None:
    async with Pod.started(Container(refuses=["no-notifications"])) as pod:
        peer = await pod.peer()
        await peer.send(op="follow")
        ready = await peer.next()
        result = await outcome(peer, function(make_socket))
    assert ready["isolation"][5:] == ["rlimits", "seccomp", "landlock"]
    assert ready["weakened"] == ["ceilings", "seccomp-notifications"]
    assert (result["reason"], result["denials"]) == ("ToolError", [])


def make_socket() -> None:
    import socket

    socket.socket()
