"""What a tool may do to its own runner, which has the same user and no user namespace in between: nothing."""

import os
from typing import Any

import pytest

from integration.pod_runner.pods import Container, Pod
from integration.pod_runner.test_pod_start import outcome
from sandboxes import function, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")


def attack_the_runner() -> dict[str, Any]:
    import os
    import resource

    def tell(path: str, mode: str, text: str = "") -> Any:
        with open(path, mode) as file:
            return file.write(text) if text else file.read(1)

    attempts: dict[str, Any] = {
        "limits": lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3)),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
        "group": lambda: os.setpriority(os.PRIO_PGRP, 1, 19),
        "user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "cores": lambda: os.sched_setaffinity(1, [0]),
        "policy": lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
        "memory": lambda: tell("/proc/1/mem", "rb"),
        "environment": lambda: tell("/proc/1/environ", "rb"),
        "descriptors": lambda: os.listdir("/proc/1/fd"),
        "oom": lambda: tell("/proc/1/oom_score_adj", "w", "1000"),
        "library": lambda: tell("/opt/corral/lib/corral_runner/tool.py", "a", "#"),
    }
    seen = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            seen[name] = "done"
        except OSError as error:
            seen[name] = type(error).__name__
    for number in (9, 15, 19):
        try:
            os.kill(1, number)
        except OSError:
            pass
    return seen


@pytest.mark.parametrize("refuses", [(), ("no-landlock",)])
async def test_A7_a_tool_cannot_harm_its_runner(refuses: tuple[str, ...]) -> None:
    async with Pod.started(Container(refuses=refuses)) as pod:
        peer = await pod.peer()
        result = await outcome(peer, function(attack_the_runner))
        assert (result["reason"], result["error"]) == ("Completed", None)
        done = {name for name, found in result["result"].items() if found == "done"}
        # What is not dumpable belongs to the machine's root, which is who the tool is where root runs the tests.
        assert done <= ({"descriptors", "oom"} if os.geteuid() == 0 else set())
        assert {denial["syscall"] for denial in result["denials"]} == {
            "prlimit64",
            "setpriority",
            "sched_setaffinity",
            "sched_setscheduler",
        }
        assert (await outcome(peer, shell("echo still served"), "two"))["stdout"] == "still served\n"


async def test_A7_what_a_tool_does_to_itself_it_may() -> None:
    def restrain_myself() -> list[int]:
        import os
        import resource

        resource.prlimit(0, resource.RLIMIT_NOFILE, (64, 64))
        resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (0, 0))
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        return [resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.getpriority(os.PRIO_PROCESS, 0)]

    async with Pod.started() as pod:
        result = await outcome(await pod.peer(), function(restrain_myself))
    assert (result["result"], result["denials"]) == ([64, 5], [])
