"""M1: tools of one's own: a function, a command, an image with the runner, an image without."""

import pytest

from cluster.installation import Installation
from cluster.tenant import Tenant, main_of, reason_of
from cluster.watching import Watch

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}


@pytest.fixture
def image(operator: Installation) -> str:
    """Return an image that the nodes have."""
    return operator.settings["CORRAL_SANDBOX_IMAGE"]


def test_M1_tool_that_is_a_function_or_a_command(warm: Tenant) -> None:
    warm.tool("double", inputSchema=_TEXT, run={"function": {"code": "def main(text): return text * 2"}})
    warm.tool(
        "count-words",
        inputSchema=_TEXT,
        permissions=["read", "execute"],
        run={"command": {"argv": ["wc", "-w"], "stdin": "$(arguments.text)"}},
    )
    warm.tool(
        "as-json",
        inputSchema=_TEXT,
        permissions=["read", "execute"],
        run={"command": {"argv": ["echo", '{"said": "$(arguments.text)"}'], "resultFormat": "JSON"}},
    )
    names = {
        tool: warm.start(tool, arguments={"text": "one two"}) for tool in ("double", "count_words", "as-json")
    }
    results = {tool: main_of(warm.ended(name)).get("result") for tool, name in names.items()}
    assert results == {"double": "one twoone two", "count_words": "2\n", "as-json": {"said": "one two"}}


def test_M1_tool_that_is_applied_later_is_found_by_later_tasks(warm: Tenant) -> None:
    assert reason_of(warm.run("latecomer")) == "ToolNotFound"
    warm.tool("latecomer", run={"function": {"code": "def main(): return 1"}})
    assert main_of(warm.run("latecomer"))["result"] == 1
    warm.kubectl("delete", "tool", "latecomer")
    assert reason_of(warm.run("latecomer")) == "ToolNotFound"


def test_M1_a_tool_and_its_task_may_come_together(warm: Tenant) -> None:
    """As one file for kubectl: the operator's watch of tools may tell of the one after it has heard of the other."""
    names = []
    for number in range(10):
        warm.tool(f"pair-{number}", run={"function": {"code": f"def main(): return {number}"}})
        names.append(warm.start(f"pair-{number}"))
    assert [main_of(warm.ended(name)).get("result") for name in names] == list(range(10))


def test_M1_program_in_an_image_without_a_runner(tenant: Tenant, image: str) -> None:
    """The image is the sandbox's, but nobody says that it has a runner: its python runs as the container's own."""
    print_all = (
        "import os, sys; print(sys.argv[1], os.environ['WHO'], os.getuid()); print('oops', file=sys.stderr)"
    )
    tenant.tool(
        "plain",
        inputSchema=_TEXT,
        permissions=["read", "execute"],
        run={"command": {"image": image, "argv": ["python3", "-c", print_all, "$(arguments.text)"]}},
    )
    for name, argv, form in (
        ("plain-json", ["echo", "[1, 2]"], "JSON"),
        ("plain-broken-json", ["echo", "[1, 2"], "JSON"),
        ("plain-fails", ["sh", "-c", "echo partial; exit 3"], "Text"),
        ("plain-slow", ["sh", "-c", "echo partial; sleep 60"], "Text"),
        ("plain-missing", ["no-such-program"], "Text"),
    ):
        command = {"image": image, "argv": argv, "resultFormat": form}
        tenant.tool(name, permissions=["read", "execute"], run={"command": command})
    _ = tenant.pods
    first = tenant.start("plain", arguments={"text": "hello"}, env=[{"name": "WHO", "value": "world"}])
    others = {
        name: tenant.start(name, limits={"timeout": "3s"})
        for name in ("plain-json", "plain-broken-json", "plain-fails", "plain-slow", "plain-missing")
    }
    main = main_of(tenant.ended(first))
    assert main["reason"] == "Completed", main
    assert main["result"] == main["output"]["stdout"]
    # Most API servers cannot yet tell the two streams of a log apart (PodLogsQuerySplitStreams), and a container
    # runtime writes down what it reads of each in no certain order.
    said = main["output"]["stdout"], main["output"]["stderr"]
    apart, together = (
        ("hello world 65532\n", "oops\n"),
        ("hello world 65532\noops\n", "oops\nhello world 65532\n"),
    )
    assert said == apart or (said[0] in together and not said[1])
    assert main["sandbox"]["weakened"] == ["runner"]
    assert "networkpolicy" in main["sandbox"]["isolation"]
    ends = {name: main_of(tenant.ended(task)) for name, task in others.items()}
    assert {name: end["reason"] for name, end in ends.items()} == {
        "plain-json": "Completed",
        "plain-broken-json": "ToolError",
        "plain-fails": "ToolError",
        "plain-slow": "DeadlineExceeded",
        "plain-missing": "ToolError",
    }
    assert ends["plain-json"]["result"] == [1, 2]
    assert ends["plain-fails"]["exitCode"] == 3
    assert ends["plain-fails"]["output"]["stdout"] == "partial\n"
    assert ends["plain-slow"]["output"]["stdout"] == "partial\n"
    assert "no-such-program" in ends["plain-missing"]["message"]
    tenant.no_pod_left()


def test_M1_what_needs_a_runner_is_refused_without_one(tenant: Tenant, image: str) -> None:
    _ = tenant.pods
    tenant.tool("plain", permissions=["read", "execute"], run={"command": {"image": image, "argv": ["true"]}})
    for field, spec in (
        ("spec.files", {"files": [{"path": "a", "content": "b"}]}),
        ("spec.outputs", {"outputs": ["*"]}),
        ("spec.limits.idleTimeout", {"limits": {"idleTimeout": "1s"}}),
    ):
        task = tenant.run("plain", **spec)
        assert reason_of(task) == "Unsupported"
        assert main_of(task)["error"]["field"] == field
    assert tenant.pods.names() == set()


def test_M1_program_in_an_image_that_has_the_runner(tenant: Tenant, image: str) -> None:
    command = {"image": image, "hasRunner": True, "argv": ["cat", "in.txt"]}
    tenant.tool("with-runner", permissions=["read", "execute"], run={"command": command})
    task = tenant.run("with-runner", files=[{"path": "in.txt", "content": "from a file"}])
    assert main_of(task)["result"] == "from a file"
    assert "seccomp" in main_of(task)["sandbox"]["isolation"]


def test_M1_cancel_of_a_program_without_a_runner(tenant: Tenant, image: str) -> None:
    command = {"image": image, "argv": ["sh", "-c", "echo partial; sleep 300"]}
    tenant.tool("plain", permissions=["read", "execute"], run={"command": command})
    _ = tenant.pods
    name = tenant.start("plain", limits={"timeout": "300s"})

    def runs(seen: Watch) -> bool:
        return any((pod.get("status") or {}).get("phase") == "Running" for pod in seen.now.values())

    tenant.pods.until(runs, seconds=60)
    tenant.cancel(name)
    task = tenant.ended(name, seconds=30)
    assert reason_of(task) == "Cancelled"
    tenant.no_pod_left()
