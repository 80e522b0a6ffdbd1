"""A7, M3: nothing outside its own places and permissions is a tool's to read, write, signal or execute."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from integration.sandbox import attacks
from sandboxes import Lab, Outcome, function, request, run_in, shell

in_shared_loop = pytest.mark.asyncio(loop_scope="session")
pytestmark = in_shared_loop

R, W, CREATE = os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_CREAT
OPEN = "opened"
#: The runner is another process of the same user: what keeps the tool from it.
RUNNER = ("undumpable", "landlock", "capabilities")

#: Refused whatever layer is asked: the system is mounted read-only, and belongs to another user.
SYSTEM: dict[str, list[Any]] = {
    **{
        f"create in {place}": ["open", f"{place}/escape", CREATE]
        for place in ("/usr", "/etc", "/opt/corral", "/dev", "")
    },
    **{
        f"write {path}": ["open", path, W]
        for path in (
            "/usr/bin/env",
            "/etc/passwd",
            "/opt/corral/lib/corral_runner/tool.py",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/modprobe",
            "/proc/sysrq-trigger",
            "/dev/mem",
            "/dev/kmsg",
        )
    },
    "read kcore": ["open", "/proc/kcore", R],
    "remove": ["unlink", "/usr/bin/env"],
    "rename": ["rename", "/usr/bin/env", "/usr/bin/escape"],
    "link": ["symlink", "/tmp", "/etc/escape"],
    "chmod": ["chmod", "/usr", 0o777],
    "disk device": ["mknod", "/tmp/escape", 0o60666, 0x0801],
    "memory device": ["mknod", "/tmp/escape", 0o20666, 0x0101],
    "setuid": ["setuid", 0],
    "setgid": ["setgid", 0],
    "setgroups": ["setgroups", [0]],
    "chown": ["chown", "/tmp", 0, 0],
    "priority": ["nice", -5],
    "everybody": ["kill", -1, 0],
}

#: Of the runner's: the call, and the layers that keep the tool from it.
OF_THE_RUNNER: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "memory": (["open", "/proc/1/mem", os.O_RDWR], RUNNER),
    "environment": (["open", "/proc/1/environ", R], RUNNER),
    "maps": (["open", "/proc/1/maps", R], RUNNER),
    "file through its root": (["open", "/proc/1/root/etc/passwd", R], RUNNER),
    "root": (["listdir", "/proc/1/root"], RUNNER),
    "directory": (["listdir", "/proc/1/cwd"], RUNNER),
    "program": (["readlink", "/proc/1/exe"], RUNNER),
    "namespace": (["readlink", "/proc/1/ns/user"], RUNNER),
    "descriptors": (["listdir", "/proc/1/fd"], RUNNER),
    "out-of-memory score": (["open", "/proc/1/oom_score_adj", W], RUNNER),
    "ceiling": (["open", "/proc/sys/user/max_user_namespaces", W], RUNNER),
    "question": (["kill", 1, 0], ("landlock",)),
    "kill": (["kill", 1, 9], ("landlock",)),
    "end": (["kill", 1, 15], ("landlock",)),
}


def given(call: list[Any]) -> dict[str, Any]:
    return {"call": call[0], "arguments": call[1:]}


def errors(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("E") and value.isupper()


@pytest.mark.parametrize("case", SYSTEM)
async def test_A7_the_system_is_nobodys_to_change(lab: Lab, case: str) -> None:
    assert errors((await lab.call(attacks.attempt, arguments=given(SYSTEM[case]))).completed())


@pytest.mark.parametrize("case", OF_THE_RUNNER)
async def test_A7_the_runner_is_out_of_reach_and_within_it_where_its_layers_are_off(
    lab: Lab, without: Callable[..., Lab], case: str
) -> None:
    call, layers = OF_THE_RUNNER[case]
    assert (await lab.call(attacks.attempt, arguments=given(call))).completed() in {"EACCES", "EPERM"}
    if case == "end":
        return  # without the layer it would end the sandbox
    weak = await without(*layers).call(attacks.attempt, arguments=given(call))
    assert not errors(weak.completed())


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory of the host that everybody may write to; not below /tmp, of which every sandbox has its own."""
    directory = Path(tempfile.mkdtemp(dir="/var/tmp"))
    directory.chmod(0o777)
    (directory / "marker").write_text("host")
    (directory / "marker").chmod(0o666)
    yield directory
    shutil.rmtree(directory)


async def test_A7_files_of_the_host_are_not_there(lab: Lab, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("host")
    paths = [
        outside / "marker",
        tmp_path / "marker",
        "/etc/shadow",
        "/etc/hostname",
        "/sys/kernel",
        "/run",
        "/home",
    ]
    calls = [["open", str(path), R] for path in paths] + [["open", str(outside / "new"), CREATE]]
    calls += [["listdir", "/root"], ["open", "/workspace/../../../../etc/shadow", R]]
    ended = await lab.call(attacks.attempts, arguments={"calls": calls})
    assert set(ended.completed()) <= {"ENOENT", "EACCES"}
    assert [path.name for path in outside.iterdir()] == ["marker"]


async def test_A7_files_of_the_host_are_there_where_the_mounts_and_landlock_are_off(
    without: Callable[..., Lab], outside: Path
) -> None:
    weak = without("landlock", outer=("system",))
    calls = [
        ["open", str(outside / "marker"), W],
        ["open", str(outside / "new"), CREATE],
        ["listdir", "/sys"],
    ]
    ended = await weak.call(attacks.attempts, arguments={"calls": calls})
    assert ended.completed() == ["OK"] * 3
    assert (outside / "new").exists()


async def test_M3_execution_needs_its_permission(lab: Lab, without: Callable[..., Lab]) -> None:
    for ended in (
        await lab.call(attacks.execute, permissions=("read", "write")),
        await lab.run(request(shell("true"), permissions=("read", "write"))),
    ):
        assert ended.reason == "PermissionDenied"
        assert ended.status.error is not None
        assert ended.status.error.rule == "permissions: execute"
    weak = await without("seccomp", "landlock").call(attacks.execute, permissions=("read", "write"))
    assert weak.completed() == 0


async def in_session(lab: Lab, confined: Sequence[list[Any]], **changes: Any) -> tuple[Outcome, bytes]:
    """Let a free execution prepare the workspace, and a confined one of the same owner try to leave its paths."""
    script = (
        "mkdir allowed; echo secret >secret; ln -s ../secret allowed/link; ln -s .. allowed/up; ln -s . self"
    )
    async with lab.sandbox() as sandbox:
        first = request(shell(script))
        (await run_in(sandbox, first)).completed()
        what = request(function(attacks.attempts), {"calls": confined}, owner=first.owner, **changes)
        return await run_in(sandbox, what), await sandbox.get("secret")


_LEAVE: list[list[Any]] = [
    ["open", "secret", R],
    ["open", "secret", W],
    ["open", "allowed/../secret", R],
    ["open", "allowed/link", R],
    ["open", "allowed/up/secret", R],
    ["open", "self/secret", R],
    ["open", "/proc/self/cwd/secret", R],
    ["open", "new", CREATE],
    ["mkdir", "directory"],
    ["link", "secret", "allowed/hard"],
    ["rename", "secret", "allowed/moved"],
]


async def test_M3_no_link_leads_out_of_the_allowed_paths(lab: Lab, without: Callable[..., Lab]) -> None:
    allowed = {"allowed_paths": ("allowed",)}
    ended, secret = await in_session(lab, [*_LEAVE, ["open", "allowed/own", CREATE]], **allowed)
    *refused, own = ended.completed()
    assert own == "OK"
    assert set(refused) <= {"EACCES", "EXDEV", "EPERM"}, refused
    assert secret == b"secret\n"
    weak, _ = await in_session(without("landlock"), _LEAVE[:-1], **allowed)
    assert weak.completed() == ["OK"] * (len(_LEAVE) - 1)


async def test_M3_an_allowed_path_that_is_a_link_allows_nothing(lab: Lab) -> None:
    ended, _ = await in_session(lab, _LEAVE[:3], allowed_paths=("allowed/up", "self"))
    assert set(ended.completed()) == {"EACCES"}


async def test_M3_writing_needs_its_permission(lab: Lab, without: Callable[..., Lab]) -> None:
    calls: list[list[Any]] = [
        ["open", "secret", W],
        ["open", "new", CREATE],
        ["unlink", "secret"],
        ["mkdir", "allowed/x"],
    ]
    calls.append(["rename", "secret", "allowed/x"])
    ended, secret = await in_session(lab, [*calls, ["open", "secret", R]], permissions=("read",))
    *refused, read = ended.completed()
    assert (read, secret) == ("OK", b"secret\n")
    assert set(refused) <= {"EACCES", "EXDEV", "EPERM"}, refused
    weak, _ = await in_session(without("landlock"), calls[:2], permissions=("read",))
    assert weak.completed() == ["OK", "OK"]
