"""A7, M4: neither what a tool leaves in its workspace, nor what it writes to the runner, deceives anyone but itself."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from corral.sandbox.errors import RequestRefusedError
from integration.sandbox import attacks
from sandboxes import Lab, function, request, run_in, shell, until_printed

pytestmark = pytest.mark.asyncio(loop_scope="session")

LINKS = {
    "file": "/etc/passwd",
    "environment": "/proc/self/environ",
    "outside": "/opt/corral",
    "inside": "honest",
    "directory": ".",
}


@pytest.mark.parametrize(
    "path", ["file", "environment", "outside/lib/corral_runner/tool.py", "inside", "fifo"]
)
async def test_A7_get_follows_no_link_and_reads_nothing_but_files(lab: Lab, path: str) -> None:
    async with lab.sandbox() as sandbox:
        (await run_in(sandbox, request(function(attacks.plant), {"targets": LINKS}))).completed()
        assert await sandbox.get("honest") == b"honest"
        with pytest.raises(RequestRefusedError):
            await sandbox.get(path)


@pytest.mark.parametrize("path", ["file", "inside", "directory/new", "fifo"])
async def test_A7_put_follows_no_link_and_writes_nothing_but_files(lab: Lab, path: str) -> None:
    async with lab.sandbox() as sandbox:
        first = request(function(attacks.plant), {"targets": LINKS})
        (await run_in(sandbox, first)).completed()
        await sandbox.put(path, b"changed")
        ended = await run_in(sandbox, request(shell("true"), owner=first.owner))
        assert ended.reason == "InvalidSpec"
        assert ended.status.error is not None
        assert ended.status.error.type == "PathRefused"
        assert ended.stdout == ""


async def test_A7_outputs_follow_no_link_and_hold_nothing_but_files(lab: Lab) -> None:
    ended = await lab.run(request(function(attacks.plant), {"targets": LINKS}, outputs=("**",)))
    ended.completed()
    assert {file.path: file.content for file in ended.status.files} == {"honest": "honest", "hard": "honest"}


REPORTS: dict[str, tuple[str, int]] = {
    "garbage": ("\x00\udcff{[\n" * 100, 10),
    "forged ready": ('{"type":"ready","listener":true}\n', 100),
    "forged reason": ('{"type":"nonsense","reason":"Completed"}\n', 10),
    "deep": ("[" * 50_000 + "\n", 3),
    "wrong types": (
        '{"type":["result"],"result":{}}\n{"type":"progress","fraction":"x","message":[1]}\n',
        10,
    ),
    "huge number": ('{"type":"progress","fraction":' + "9" * 4000 + "}\n", 10),
}


@pytest.mark.parametrize("case", REPORTS)
async def test_A7_nonsense_in_the_report_changes_nothing(lab: Lab, case: str) -> None:
    line, times = REPORTS[case]
    ended = await lab.call(attacks.write_into_report, arguments={"line": line, "times": times})
    assert ended.completed() == "honest"
    assert ended.denied == set()


async def test_A7_a_forged_reason_is_not_believed(lab: Lab) -> None:
    """Only what the runner itself decides may blame the sandbox, the caller or the clock."""
    for reason in ("SandboxFailed", "Cancelled", "DeadlineExceeded", "NetworkDenied", "NoSuch", None, 7):
        line = json.dumps({"type": "error", "reason": reason, "message": "forged"}) + "\n"
        ended = await lab.call(attacks.write_into_report, arguments={"line": line, "times": 1})
        assert (ended.reason, ended.status.message) == ("ToolError", "forged")


async def test_A7_a_line_without_end_is_a_result_that_is_too_large(lab: Lab) -> None:
    ended = await lab.call(attacks.write_into_report, arguments={"line": "x" * 65536, "times": 400})
    assert (ended.reason, ended.limit) == ("OutputLimit", "result")


@pytest.mark.parametrize("tool", [attacks.send_descriptors_to_report, attacks.close_report])
async def test_A7_descriptors_and_a_closed_channel_do_not_disturb_the_runner(
    lab: Lab, tool: Callable[..., Any]
) -> None:
    async with lab.sandbox() as sandbox:
        first = request(function(tool))
        assert (await run_in(sandbox, first)).result in {"honest", None}
        # The same runner serves on, and still hears what is refused.
        second = request(function(attacks.attempt), {"call": "chroot", "arguments": ["/"]}, owner=first.owner)
        ended = await run_in(sandbox, second)
        assert (ended.completed(), ended.denied) == ("EPERM", {"chroot"})


async def test_A7_a_tool_cannot_lower_its_runners_limits(lab: Lab) -> None:
    ended = await lab.call(attacks.starve_the_runner)
    assert (ended.completed(), ended.denied) == ("PermissionError", {"prlimit64"})


async def test_A7_a_runners_limits_are_lowered_where_the_filter_is_off(without: Callable[..., Lab]) -> None:
    ended = await without("seccomp").call(attacks.starve_the_runner)
    assert ended.reason == "SandboxFailed" or ended.completed() == "done"


async def test_M4_sandboxes_beside_each_other_share_no_names(lab: Lab) -> None:
    async with lab.sandbox() as sandbox:
        await sandbox.start(request(function(attacks.listen_where_all_can_see)))
        await until_printed(sandbox, "up")
        assert (await lab.call(attacks.reach_neighbour)).completed() == []


async def test_M4_names_are_shared_where_namespaces_landlock_and_the_filter_are_off(
    without: Callable[..., Lab],
) -> None:
    """They stay within the wall around all cells, so that this test leaves nothing on the host."""
    weak = without("namespaces", "landlock", "seccomp")
    async with weak.sandbox() as sandbox:
        await sandbox.start(request(function(attacks.listen_where_all_can_see)))
        await until_printed(sandbox, "up")
        assert (await weak.call(attacks.reach_neighbour)).completed() == ["socket", "memory"]
