"""Tools in images of their own, with and without the runner, and what needs the runner refused by its name."""

from collections.abc import AsyncIterator
from typing import Any

import docker
import pytest
import pytest_asyncio

from corral.api import AgentTask, Tool
from corral.catalogue import Catalogue
from corral.client import AsyncClient, build_task
from corral.sandbox.docker import DockerOptions
from sandboxes import Lab

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGE = DockerOptions.of_environment().image


def tool(image: str, script: str, **run: Any) -> Tool:
    return Tool.model_validate(
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "Tool",
            "metadata": {"name": "own"},
            "spec": {
                "description": "A tool of the test.",
                "permissions": ["read", "write", "execute"],
                "inputSchema": {"type": "object", "properties": {"word": {"type": "string"}}},
                "run": {"command": {"argv": ["/bin/sh", "-c", script], "image": image, **run}},
            },
        }
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def run(lab: Lab, daemon: docker.APIClient) -> AsyncIterator[Any]:
    async def run(image: str, script: str, *, run: dict[str, Any] | None = None, **more: Any) -> AgentTask:
        catalogue = Catalogue([tool(image, script, **(run or {}))])
        client = AsyncClient(catalogue=catalogue, backend=lab.backend)
        return await client.run_task(build_task("own", {"word": "w"}, **more))

    yield run


def told(task: AgentTask) -> tuple[Any, ...]:
    assert task.status is not None
    [execution] = task.status.executions
    output = execution.output
    return task.status.reason, output and output.stdout, output and output.stderr


async def test_a_tool_in_an_image_with_the_runner_has_everything(run: Any) -> None:
    task = await run(IMAGE, "echo made > out.txt; id -u", run={"hasRunner": True}, outputs=["out.txt"])
    assert told(task) == ("Completed", "65532\n", "")
    assert task.status.sandbox.backend == "docker"
    assert task.status.executions[0].files[0].content == "made\n"


async def test_a_program_without_the_runner_has_its_output_and_its_end(run: Any) -> None:
    task = await run(IMAGE, "cat; echo problem >&2; pwd; exit 3", run={"stdin": "in $(arguments.word)\n"})
    assert told(task) == ("ToolError", "in w\n/workspace\n", "problem\n")
    assert task.status.executions[0].exit_code == 3
    assert {"runner", "landlock", "seccomp"} <= set(task.status.sandbox.weakened)
    assert set(task.status.sandbox.isolation) == {"pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns"}


async def test_a_program_s_json_is_its_result(run: Any) -> None:
    task = await run(IMAGE, "echo '{\"a\": [1]}'", run={"resultFormat": "JSON"})
    assert task.result == {"a": [1]}


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("echo before; sleep 60", {"timeout": "2s"}, "DeadlineExceeded"),
        ("echo before; sleep 60", {"idleTimeout": "2s"}, "IdleTimeout"),
        ("echo before; while :; do echo yes; done", {"output": "10Ki"}, "OutputLimit"),
        ("echo before; tail /dev/zero", {"memory": "64Mi", "disk": "16Mi"}, "OutOfMemory"),
        ("echo before; while :; do :; done", {"cpuTime": "1s"}, "CPULimit"),
        ("echo before; exec cat /dev/zero > x", {"fileSize": "1Mi"}, "FileSizeLimit"),
    ],
)
async def test_M2_limits_of_a_program_without_the_runner(
    run: Any, script: str, limits: dict[str, Any], reason: str
) -> None:
    task = await run(IMAGE, script, limits=limits)
    found, stdout, _ = told(task)
    assert (found, stdout[:7]) == (reason, "before\n")
    assert task.status.executions[0].limit is not None


@pytest.mark.parametrize(
    ("more", "named"),
    [({"outputs": ["*"]}, "spec.outputs"), ({"files": {"a": b"x"}}, "spec.files")],
)
async def test_what_needs_the_runner_is_refused_by_its_name(
    run: Any, more: dict[str, Any], named: str
) -> None:
    task = await run(IMAGE, "echo ran", **more)
    assert told(task)[:2] == ("Unsupported", "")
    assert task.status.message.startswith(named)


@pytest.mark.parametrize("has_runner", [True, False])
async def test_an_image_that_is_not_there_is_no_matter_of_the_sandbox(run: Any, has_runner: bool) -> None:  # noqa: FBT001
    task = await run("corral/nowhere:1", "echo ran", run={"hasRunner": has_runner})
    assert told(task)[0] == "ImagePullFailed"
    assert "CORRAL_DOCKER_PULL" in task.status.message
