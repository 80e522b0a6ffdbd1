"""The attacks on the embedded sandbox, on a container: they fail there too, and succeed where the layer is off."""

from collections.abc import Callable
from pathlib import Path

import pytest

from integration.sandbox import attacks
from integration.sandbox.test_escape_files import (  # noqa: F401 - run as they are
    test_A7_the_system_is_nobodys_to_change,
    test_M3_an_allowed_path_that_is_a_link_allows_nothing,
    test_M3_execution_needs_its_permission,
    test_M3_no_link_leads_out_of_the_allowed_paths,
    test_M3_writing_needs_its_permission,
)
from integration.sandbox.test_escape_kernel import (  # noqa: F401
    _NUMBERS,
    FILTER,
    REFUSED,
    outcome,
    test_A7_call_newer_than_the_table_does_not_exist,
    test_M3_a_tool_that_fails_for_want_of_a_network_is_told_so,
)
from integration.sandbox.test_escape_runner import (  # noqa: F401
    test_A7_a_forged_reason_is_not_believed,
    test_A7_a_line_without_end_is_a_result_that_is_too_large,
    test_A7_get_follows_no_link_and_reads_nothing_but_files,
    test_A7_nonsense_in_the_report_changes_nothing,
    test_A7_outputs_follow_no_link_and_hold_nothing_but_files,
    test_A7_put_follows_no_link_and_writes_nothing_but_files,
    test_M4_sandboxes_beside_each_other_share_no_names,
)
from integration.sandbox.test_hostile_tool import (  # noqa: F401
    test_a_lie_stays_with_the_liar,
    test_devices_give_no_memory_that_nobody_counts,
    test_no_lie_blames_the_sandbox,
)
from sandboxes import Lab

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("case", REFUSED)
async def test_A7_call_is_refused(lab: Lab, case: str) -> None:
    """By the runner's filter, or by the engine's before it, which tells nobody."""
    name, arguments, _, _ = REFUSED[case]
    ended = await lab.call(attacks.system_call, arguments={"number": _NUMBERS[name], "arguments": arguments})
    assert ended.completed() == "EPERM"
    assert ended.denied <= {name}


#: Where a capability would be needed as well, a container without any shows nothing about the filter.
_BY_THE_FILTER = (
    "setns",
    "keyctl",
    "add_key",
    "ptrace",
    "pidfd_getfd",
    "name_to_handle_at",
    "personality",
    "shmget",
)


@pytest.mark.parametrize("case", _BY_THE_FILTER)
async def test_A7_call_gets_through_where_the_filters_are_off(without: Callable[..., Lab], case: str) -> None:
    name, arguments, layers, expected = REFUSED[case]
    assert layers == FILTER
    ended = await without(*layers).call(
        attacks.system_call, arguments={"number": _NUMBERS[name], "arguments": arguments}
    )
    assert outcome(ended.completed()) == expected


def processes() -> int:
    import os

    return sum(name.isdigit() for name in os.listdir("/proc"))


async def test_M3_a_container_has_no_network_but_the_loopback(lab: Lab, without: Callable[..., Lab]) -> None:
    script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '"
    assert (await lab.shell(script)).stdout.split() == ["lo"]
    outside = {path.name for path in Path("/sys/class/net").iterdir()}
    assert outside <= set((await without(outer=("net",)).shell(script)).stdout.split())
    assert len(outside) > 1


async def test_A7_processes_of_the_host_are_not_there(lab: Lab, without: Callable[..., Lab]) -> None:
    assert (await lab.call(processes)).completed() <= 4
    assert (await without(outer=("pid",)).call(processes)).completed() > 10


async def test_A7_the_engine_s_socket_is_not_inside(lab: Lab) -> None:
    ended = await lab.shell("find / -xdev -name 'docker*.sock' 2>/dev/null; ls /run /var/run")
    assert "docker" not in ended.stdout


async def test_A7_the_image_cannot_be_changed(lab: Lab, without: Callable[..., Lab]) -> None:
    script = (
        "touch /opt/corral/lib/x /usr/x /etc/x /x 2>&1; grep ' / / ' /proc/self/mountinfo | cut -d' ' -f6"
    )
    ended = await lab.shell(script)
    assert ended.stdout.splitlines()[-1].startswith("ro")
    weak = await without(outer=("system",)).shell(script)
    assert weak.stdout.splitlines()[-1].startswith("rw")
