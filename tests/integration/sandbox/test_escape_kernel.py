"""A7, M2: what a tool asks of the kernel is refused and named, and is the filter's doing: without it, it gets there."""

from collections.abc import Callable
from typing import Any

import pytest

from corral_runner import syscalls
from integration.sandbox import attacks
from sandboxes import Lab

pytestmark = pytest.mark.asyncio(loop_scope="session")

_NUMBERS = {name: number for number, name in syscalls.NAMES.items()} | syscalls.QUIETLY_ABSENT
_NEWUSER, _SIGCHLD = 0x10000000, 17
FILTER = ("seccomp",)
#: Landlock refuses changes of the mounts too, and an unprivileged user may make none.
MOUNTS = ("seccomp", "landlock", "capabilities")
#: No user namespace may be made below the sandbox's own, either.
NAMESPACES = ("seccomp", "ceilings")

#: Call, arguments, the layers that refuse it, and what the kernel says without them: the call's own answer to
#: senseless arguments (not EPERM, not ENOSYS), or OK where it does what it was asked for.
OK = "done"
REFUSED: dict[str, tuple[str, list[Any], tuple[str, ...], str]] = {
    "unshare_user": ("unshare", [_NEWUSER], NAMESPACES, OK),
    "clone_user": ("clone", [_NEWUSER | _SIGCHLD, 0, 0, 0, 0], NAMESPACES, OK),
    "mount": ("mount", ["none", "/tmp", "tmpfs", 0, 0], MOUNTS, OK),
    "umount": ("umount2", ["/nowhere", 0], FILTER, "ENOENT"),
    "pivot_root": ("pivot_root", ["/nowhere", "/nowhere"], MOUNTS, "ENOENT"),
    "chroot": ("chroot", ["/tmp"], ("seccomp", "capabilities"), OK),
    "setns": ("setns", [-1, 0], FILTER, "EBADF"),
    "bpf": ("bpf", [99, 0, 0], FILTER, "EINVAL"),
    "keyctl": ("keyctl", [0, -4, 0], FILTER, OK),
    "add_key": ("add_key", ["user", "escape", "x", 1, -3], FILTER, OK),
    "userfaultfd": ("userfaultfd", [1], FILTER, OK),
    "ptrace": ("ptrace", [0, 0, 0, 0], FILTER, OK),
    "perf_event_open": ("perf_event_open", [0, 0, -1, -1, 0], FILTER, "EFAULT"),
    "process_vm_readv": ("process_vm_readv", [1, 0, 0, 0, 0, 0], FILTER, OK),
    "pidfd_getfd": ("pidfd_getfd", [-1, 0, 0], FILTER, "EBADF"),
    "name_to_handle_at": ("name_to_handle_at", [-100, "/tmp", 0, 0, 0], FILTER, "EFAULT"),
    "open_by_handle_at": ("open_by_handle_at", [-1, 0, 0], FILTER, "EFAULT"),
    "personality": ("personality", [0x0040000], FILTER, OK),
    "shmget": ("shmget", [0x77, 4096, 0o1600], FILTER, OK),
    "reboot": ("reboot", [0, 0, 0, 0], ("seccomp", "capabilities"), "EINVAL"),
}
QUIET: dict[str, tuple[str, list[Any], str]] = {
    "io_uring": ("io_uring_setup", [1, 0], "EFAULT"),
    "clone3": ("clone3", [0, 0], "EINVAL"),
    "memfd": ("memfd_create", ["escape", 0], OK),
}
#: Numbers that no table knows: of x32, above the newest known, and the largest.
UNKNOWN = [0x40000000 + 39, 0x40000000 + 520, syscalls.NEWEST + 1, 99_999, 0x3FFFFFFF, 0x7FFFFFFF]


def outcome(value: Any) -> str:
    return OK if isinstance(value, int) else str(value)


@pytest.mark.parametrize("case", REFUSED)
async def test_A7_call_is_refused_and_named(lab: Lab, case: str) -> None:
    name, arguments, _, _ = REFUSED[case]
    ended = await lab.call(attacks.system_call, arguments={"number": _NUMBERS[name], "arguments": arguments})
    assert ended.completed() == "EPERM"
    assert ended.denied == {name}


@pytest.mark.parametrize("case", REFUSED)
async def test_A7_call_gets_through_where_its_layers_are_off(without: Callable[..., Lab], case: str) -> None:
    name, arguments, layers, expected = REFUSED[case]
    ended = await without(*layers).call(
        attacks.system_call, arguments={"number": _NUMBERS[name], "arguments": arguments}
    )
    assert outcome(ended.completed()) == expected
    assert ended.denied == set()
    assert set(ended.record.weakened) == set(layers)


@pytest.mark.parametrize("case", QUIET)
async def test_A7_call_that_libraries_probe_is_quietly_absent(
    lab: Lab, without: Callable[..., Lab], case: str
) -> None:
    name, arguments, expected = QUIET[case]
    given = {"number": _NUMBERS[name], "arguments": arguments}
    ended = await lab.call(attacks.system_call, arguments=given)
    assert (ended.completed(), ended.denied) == ("ENOSYS", set())
    weak = await without("seccomp").call(attacks.system_call, arguments=given)
    assert outcome(weak.completed()) == expected


@pytest.mark.parametrize("number", UNKNOWN)
async def test_A7_call_newer_than_the_table_does_not_exist(cells: Lab, number: int) -> None:
    """The kernel may not know these either; that they never arrive there is the unit tests' to show."""
    ended = await cells.call(attacks.system_call, arguments={"number": number, "arguments": [0, 0, 0]})
    assert (ended.completed(), ended.denied) == ("ENOSYS", set())


#: Family, type, protocol; the error; what is named; and what there is without the filter (and, for those that need
#: it, with the sandbox's own capabilities, which are over its own empty network).
SOCKETS: dict[str, tuple[list[int], str, str, tuple[str, ...], str]] = {
    "inet": ([2, 1, 0], "EACCES", "AF_INET", FILTER, OK),
    "inet_datagram": ([2, 2, 17], "EACCES", "AF_INET", FILTER, OK),
    "inet6": ([10, 1, 0], "EACCES", "AF_INET6", FILTER, OK),
    "raw": ([2, 3, 1], "EACCES", "AF_INET", ("seccomp", "capabilities"), OK),
    "packet": ([17, 3, 0], "EPERM", "AF_PACKET", ("seccomp", "capabilities"), OK),
    "vsock": ([40, 1, 0], "EPERM", "AF_VSOCK", FILTER, OK),
    "netlink": ([16, 3, 0], "EPERM", "AF_NETLINK", FILTER, OK),
    # The kernel of some machines has no such family: then that is what it says.
    "alg": ([38, 5, 0], "EPERM", "AF_ALG", FILTER, "EAFNOSUPPORT"),
    "sctp": ([2, 1, 132], "EACCES", "AF_INET", FILTER, "EPROTONOSUPPORT"),
}


@pytest.mark.parametrize("case", SOCKETS)
async def test_M3_socket_is_refused_and_is_there_where_the_filter_is_off(
    lab: Lab, without: Callable[..., Lab], case: str
) -> None:
    arguments, error, family, layers, expected = SOCKETS[case]
    given = {"number": _NUMBERS["socket"], "arguments": arguments}
    ended = await lab.call(attacks.system_call, arguments=given)
    assert (ended.completed(), ended.denied) == (error, {f"socket:{family}"})
    weak = await without(*layers).call(attacks.system_call, arguments=given)
    assert outcome(weak.completed()) in {expected, OK}


async def test_M3_a_tool_that_fails_for_want_of_a_network_is_told_so(
    lab: Lab, without: Callable[..., Lab]
) -> None:
    ended = await lab.call(attacks.connect)
    assert ended.reason == "NetworkDenied"
    assert ended.status.error is not None
    assert ended.status.error.rule == "network: none"
    # Without the filter there is a socket, and behind it a network with nobody in it.
    weak = await without("seccomp").call(attacks.connect)
    assert weak.reason == "ToolError"
    assert "unreachable" in weak.stderr


async def test_A7_nothing_is_typed_into_a_terminal(lab: Lab) -> None:
    ended = await lab.call(attacks.push_into_terminal)
    assert ended.completed() == "EPERM"
    assert ended.denied == {"ioctl:0x5412"}


async def test_A7_a_terminal_takes_typing_where_the_filter_is_off(without: Callable[..., Lab]) -> None:
    """EIO is the kernel's own: it was built or set (dev.tty.legacy_tiocsti) to refuse everybody."""
    ended = await without("seccomp").call(attacks.push_into_terminal)
    assert ended.completed() in {"typed", "EIO"}
    assert ended.denied == set()
