"""What a person reads of tasks that ended."""

import io
from typing import Any

import pytest

from corral.api import (
    AgentTask,
    AgentTaskSpec,
    AgentTaskStatus,
    Denial,
    ExecutionError,
    ExecutionOutput,
    ExecutionStatus,
    LimitBreach,
    ObjectMeta,
    Phase,
    Reason,
    Step,
    Usage,
)
from corral.cli.summary import (
    duration_of,
    explain,
    is_printed,
    print_explanation,
    print_steps,
    print_tasks,
    result_text,
    size_text,
)
from corral.cli.tables import Cell, Column, print_table
from corral.cli.terminal import Stream


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def execution(reason: Reason = Reason.COMPLETED, **fields: Any) -> ExecutionStatus:
    phase = Phase.SUCCEEDED if reason is Reason.COMPLETED else Phase.FAILED
    given = {"name": "main", "tool": "python", "phase": phase, "reason": reason, **fields}
    return ExecutionStatus(**given)


def ended(
    *executions: ExecutionStatus, name: str = "task", steps: tuple[Step, ...] = (), **status: Any
) -> AgentTask:
    last = executions[-1]
    spec = AgentTaskSpec(steps=steps) if steps else AgentTaskSpec(tool=last.tool)
    given = {
        "phase": last.phase,
        "reason": last.reason,
        "message": last.message,
        "executions": executions,
        **status,
    }
    return AgentTask(metadata=ObjectMeta(name=name), spec=spec, status=AgentTaskStatus(**given))


def plain(task: AgentTask, *, by_name: bool = True) -> str:
    out = io.StringIO()
    print_explanation(Stream(out), list(explain(task, by_name=by_name)))
    return out.getvalue()


def test_many_tasks_in_a_pipe_are_aligned_columns() -> None:
    out = io.StringIO()
    times: dict[str, Any] = {
        "start_time": "2026-01-01T00:00:00.100Z",
        "completion_time": "2026-01-01T00:00:00.150Z",
    }

    print_tasks(
        Stream(out),
        [
            ended(execution(result={"a": [1, 2]}), name="first", **times),
            ended(execution(Reason.OUT_OF_MEMORY, message="too much"), name="second-longer"),
            ended(execution(output=ExecutionOutput(stdout="one\nlast\n")), name="third"),
        ],
    )

    assert out.getvalue() == (
        "NAME           TOOL    PHASE      REASON       DURATION  RESULT\n"
        'first          python  Succeeded  Completed    50ms      {"a": [1, 2]}\n'
        "second-longer  python  Failed     OutOfMemory  -         too much\n"
        "third          python  Succeeded  Completed    -         last\n"
    )


def test_steps_are_in_the_order_of_the_chain() -> None:
    out = io.StringIO()
    steps = (Step(name="a", tool="python"), Step(name="b", tool="python"))
    done = [
        execution(name="b", result=2, usage=Usage(wall_seconds=61.5)),
        execution(name="a", result="one", usage=Usage(wall_seconds=1.5)),
    ]

    print_steps(Stream(out), ended(*done, steps=steps))

    assert out.getvalue() == (
        "STEP  TOOL    PHASE      REASON     DURATION  RESULT\n"
        "a     python  Succeeded  Completed  1.50s     one\n"
        "b     python  Succeeded  Completed  1m02s     2\n"
    )


def test_a_table_on_a_terminal_fits_it_and_shows_control_characters() -> None:
    out = FakeTerminal()
    columns = [Column("NAME"), Column("TEXT", flexible=True)]

    print_table(Stream(out, colour=False, width=30), columns, [("a\x1b[2J", Cell("x" * 100, ("red",)))])

    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 30
    assert "\x1b" not in out.getvalue()
    assert lines[1].split() == ["a␛[2J", "x" * 22 + "…"]


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Stream(FakeTerminal()).paint("x", "red", "bold") == "\x1b[31;1mx\x1b[0m"
    assert Stream(io.StringIO()).paint("x", "red") == "x"

    monkeypatch.setenv("NO_COLOR", "1")
    assert Stream(FakeTerminal()).paint("x", "red") == "x"

    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Stream(FakeTerminal()).paint("x", "red") == "x"


def test_a_limit_that_was_broken_is_told_with_its_option() -> None:
    breach = LimitBreach(name="memory", value=64 << 20, unit="bytes", enforced_by="sampler")
    task = ended(execution(Reason.OUT_OF_MEMORY, message="the memory limit was exceeded", limit=breach))

    assert plain(task) == (
        "failed: OutOfMemory: the memory limit was exceeded\n"
        "  limit: memory=64Mi, held by sampler\n"
        "  remedy: Raise --limit memory=…, or work on less data at a time.\n"
    )
    assert "Raise limits.memory" in plain(task, by_name=False)


def test_rule_denials_and_cut_output_are_told() -> None:
    task = ended(
        execution(
            Reason.NETWORK_DENIED,
            message="the tool tried to use the network",
            error=ExecutionError(type="NetworkDenied", rule="network: none"),
            denials=(Denial(syscall="socket", detail="AF_INET", count=3), Denial(syscall="mount")),
            output=ExecutionOutput(stdout="", truncated=True),
            limit=LimitBreach(name="timeout", value=1.5, unit="seconds"),
        )
    )

    assert plain(task).splitlines()[1:-1] == [
        "  rule: network: none",
        "  limit: timeout=1.5s",
        "  denied: socket AF_INET, 3 times",
        "  denied: mount",
        "  output: cut at the limit; what came before it is kept",
    ]


def test_a_chain_is_explained_by_the_step_that_failed() -> None:
    steps = (Step(name="a", tool="python"), Step(name="b", tool="python"))
    failed = execution(Reason.TOOL_ERROR, name="b", message="ValueError: no")
    task = ended(
        execution(name="a"),
        failed,
        steps=steps,
        reason=Reason.STEP_FAILED,
        message="step b ended with ToolError",
    )

    assert plain(task) == (
        "failed: ToolError: step b: ValueError: no\n"
        "  StepFailed: step b ended with ToolError\n"
        "  remedy: Read the error and the output; the sandbox and its limits were not the cause.\n"
    )


def test_what_a_tool_says_of_its_error_reaches_no_terminal_raw() -> None:
    assert "\x1b" not in plain(ended(execution(Reason.TOOL_ERROR, message="\x1b]0;owned\x07")))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is\n", "as it is\n"),
        (42, "42"),
        (True, "true"),
        ({"a": 1, "ä": "ö"}, '{"a": 1, "ä": "ö"}'),
        ([], "[]"),
        ([[1]], "[\n  [\n    1\n  ]\n]"),
    ],
)
def test_a_result_is_a_text_or_json(result: Any, text: str) -> None:
    assert result_text(result) == text


@pytest.mark.parametrize(
    ("stdout", "result", "printed"),
    [
        ("hello\n", "hello", True),
        ('{"a": 1}\n', {"a": 1}, True),
        ("", "", False),
        ("hello\n", "other", False),
        ("no json", 5, False),
    ],
)
def test_a_result_that_was_printed_is_not_printed_again(stdout: str, result: Any, *, printed: bool) -> None:
    assert is_printed(execution(result=result, output=ExecutionOutput(stdout=stdout))) is printed


def test_sizes_and_durations_are_for_people() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 26258, 200 << 20, 3 << 30)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "25.6 KiB",
        "200 MiB",
        "3.0 GiB",
    ]
    assert duration_of(ended(execution())) == ""
