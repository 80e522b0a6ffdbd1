"""python: a script's behaviour, and the value of its last expression."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, ToolContext, ToolFailure
from corral_tools import bounds, json_values

python = importlib.import_module("corral_tools.python")


def execute(context: ToolContext, code: str, **more: Any) -> Any:
    return python.run({"code": code, **more}, context)


def execute_apart(code: str, workspace: Path, prologue: str = "") -> "subprocess.CompletedProcess[str]":
    """Run code with the tool in a process of its own, which prints the tool's result or failure."""
    program = f"""
import sys
{prologue}
from corral_runner.interface import ToolContext, ToolFailure
from corral_tools import python
try:
    result = python.run({{"code": {code!r}}}, ToolContext({str(workspace)!r}))
    print("result:", result)
except ToolFailure as failure:
    print("failure:", failure.message, type(failure.__cause__).__name__)
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=workspace,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("6 * 7", 42),
        ("", None),
        ("# nothing", None),
        ("x = 1", None),
        ("x = 1\nx + 1", 2),
        ("x = 1; x", 1),
        ("'a string alone'", "a string alone"),
        ("def f():\n    return 5\nf()", 5),
        ("for n in range(3):\n    n", None),
        ("if True:\n    1", None),
        ("print", {"type": "builtin_function_or_method", "repr": "<built-in function print>"}),
        ("[n * n for n in range(4)]", [0, 1, 4, 9]),
        ("(1, (2, 3))", [1, [2, 3]]),
        ("{'a': [1, 2.5, True, None, 'ü']}", {"a": [1, 2.5, True, None, "ü"]}),
        ("from collections import Counter\nCounter('aab')", {"a": 2, "b": 1}),
        ("from enum import IntEnum\nclass E(IntEnum):\n    A = 7\nE.A", 7),
        ("class S(str): pass\nS('x')", "x"),
        ("{1: 'a'}", {"type": "dict", "repr": "{1: 'a'}"}),
        ("{'when': {1, 2}}", {"when": {"type": "set", "repr": "{1, 2}"}}),
        ("float('nan')", {"type": "float", "repr": "nan"}),
        ("[float('inf')]", [{"type": "float", "repr": "inf"}]),
        ("'\\ud800'", {"type": "str", "repr": "'\\ud800'"}),
        ("{'\\ud800': 1}", {"type": "dict", "repr": "{'\\ud800': 1}"}),
        ("b'bytes'", {"type": "bytes", "repr": "b'bytes'"}),
        ("2 ** 63 - 1", 2**63 - 1),
        ("2 ** 63", {"type": "int", "repr": "9223372036854775808"}),
        ("10 ** 5000", {"type": "int", "repr": "<its repr raised ValueError>"}),
        (
            "import datetime\ndatetime.date(2024, 1, 2)",
            {"type": "datetime.date", "repr": "datetime.date(2024, 1, 2)"},
        ),
        ("class Own:\n    def __repr__(self): return 'own'\nOwn()", {"type": "Own", "repr": "own"}),
        (
            "class Bad:\n    def __repr__(self): raise KeyError('x')\nBad()",
            {"type": "Bad", "repr": "<its repr raised KeyError>"},
        ),
        ("class Odd:\n    def __repr__(self): return '\\ud800'\nOdd()", {"type": "Odd", "repr": "?"}),
        ("import sys\nsys.exit()", None),
        ("import sys\nsys.exit(0)", None),
        ("raise SystemExit(256)", None),
    ],
)
def test_the_value_of_the_last_expression_is_the_result(
    code: str, expected: Any, context: ToolContext
) -> None:
    result = execute(context, code)
    assert result == expected
    assert type(result) is type(expected)
    json.dumps(result, allow_nan=False)


def test_a_value_that_is_too_large_or_too_deep_is_described_and_cut(context: ToolContext) -> None:
    for code in ("['x' * 100] * 100_000", "'x' * 10_000_000", "list(range(1_000_000))"):
        result = execute(context, code)
        assert (result["truncated"], len(result["repr"])) == (True, json_values.MAX_REPR_CHARACTERS)
    assert execute(context, "x = []\nfor _ in range(100): x = [x]\nx")["type"] == "list"
    assert execute(context, "x = []\nfor _ in range(100_000): x = [x]\nx")["type"] == "list"
    assert execute(context, "x = []\nx.append(x)\nx") == {"type": "list", "repr": "[[...]]"}
    # Shared parts that would be 2 ** 40 when spelled out.
    assert execute(context, "x = [1]\nfor _ in range(40): x = [x, x]\nx and 1") == 1


def test_a_value_that_just_fits_is_kept(context: ToolContext) -> None:
    room = json_values.MAX_BYTES - len('"",')
    assert execute(context, f"'x' * {room}") == "x" * room
    assert execute(context, f"'x' * {room + 1}")["truncated"] is True


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists)
)
def test_every_value_becomes_json_within_bounds(value: Any) -> None:
    encoded = json.dumps(json_values.from_python(value), allow_nan=False)
    assert len(encoded) <= bounds.RESULT_BYTES


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_a_json_value_stays_what_it_is(value: Any) -> None:
    assert json_values.from_python(value) == value


def test_prints_are_output(context: ToolContext, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(context, "import sys\nprint('out')\nprint('err', file=sys.stderr)") is None
    assert capsys.readouterr() == ("out\n", "err\n")


def test_standard_input_is_what_was_given(context: ToolContext) -> None:
    assert execute(context, "[input(), input()]", stdin="one\nzwei ü\n") == ["one", "zwei ü"]
    assert execute(context, "import sys\n[sys.stdin.read(), sys.stdin.read()]", stdin="a\r\nb") == [
        "a\nb",
        "",
    ]
    assert execute(context, "import sys\nlen(sys.stdin.buffer.read())", stdin="ü") == 2
    with pytest.raises(ToolFailure, match="EOFError"):
        execute(context, "input()", stdin="")


def test_an_exception_leaves_a_traceback_of_the_code_alone(
    context: ToolContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ToolFailure) as caught:
        execute(context, "def half(n):\n    return n / 0\n\nprint('before')\nhalf(2)\n")
    assert caught.value.message == "ZeroDivisionError: division by zero"
    assert caught.value.details == {"exception": "ZeroDivisionError", "line": 2}
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    out, err = capsys.readouterr()
    assert out == "before\n"
    lines = [line for line in err.splitlines() if set(line.strip()) - set("^~")]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<task>", line 5, in <module>',
        "    half(2)",
        '  File "<task>", line 2, in half',
        "    return n / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_a_syntax_error_shows_the_line(context: ToolContext, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolFailure, match="SyntaxError") as caught:
        execute(context, "x = 1\nif x\n    pass")
    assert caught.value.details["line"] == 2
    err = capsys.readouterr().err
    assert err.startswith('  File "<task>", line 2\n    if x\n')
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("a\0b", "SyntaxError|ValueError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("(" * 500 + ")" * 500, "SyntaxError|MemoryError|RecursionError"),
        ("+".join(["1"] * 20_000), "RecursionError|MemoryError"),
        ("raise ValueError", "^ValueError$"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "^E$"),
        ("raise ValueError('x' * 100_000)", "^ValueError: x{1988}$"),
        ("raise ExceptionGroup('many', [ValueError(1), TypeError(2)])", "ExceptionGroup: many"),
    ],
)
def test_whatever_is_raised_is_the_codes_failure(
    code: str, kind: str, context: ToolContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ToolFailure, match=kind) as caught:
        execute(context, code)
    assert caught.value.__cause__ is not None
    assert capsys.readouterr().err != ""


@pytest.mark.parametrize(
    ("code", "status"), [("import sys\nsys.exit(3)", 3), ("raise SystemExit('bye')", "bye")]
)
def test_an_exit_status_other_than_0_is_left_to_the_runner(
    code: str, status: Any, context: ToolContext
) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(context, code)
    assert caught.value.code == status


def test_a_lone_surrogate_in_code_or_stdin_is_refused(context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match="code: has a lone surrogate"):
        execute(context, "'\ud800'")
    with pytest.raises(InvalidArgument, match="stdin: has a lone surrogate"):
        execute(context, "1", stdin="\udfff")


def test_the_code_is_main_and_what_it_defines_can_be_pickled(context: ToolContext) -> None:
    code = """
import pickle
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: "int"

def double(n):
    return 2 * n

assert __name__ == "__main__"
assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)
assert pickle.loads(pickle.dumps(double))(4) == 8
__import__("typing").get_type_hints(Point)["x"].__name__
"""
    assert execute(context, code) == "int"


def test_a_main_guard_is_entered_and_arguments_are_those_of_a_script(context: ToolContext) -> None:
    assert execute(
        context, "import sys\nran = False\nif __name__ == '__main__':\n    ran = sys.argv\nran"
    ) == ["<task>"]


def test_modules_of_the_workspace_can_be_imported_and_leave_no_cache(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "own_module_of_the_task.py").write_text("VALUE = 5\n")
    try:
        assert execute(context, "import own_module_of_the_task\nown_module_of_the_task.VALUE") == 5
    finally:
        sys.modules.pop("own_module_of_the_task", None)
    assert [path.name for path in workspace.iterdir()] == ["own_module_of_the_task.py"]


def test_the_process_is_left_as_it_was(context: ToolContext) -> None:
    before = (sys.modules["__main__"], sys.argv, sys.path, [*sys.path], sys.stdin, sys.dont_write_bytecode)
    execute(context, "import sys\nsys.path.append('x')\nsys.argv = []", stdin="x")
    with pytest.raises(ToolFailure):
        execute(context, "1 / 0", stdin="x")
    assert (
        sys.modules["__main__"],
        sys.argv,
        sys.path,
        [*sys.path],
        sys.stdin,
        sys.dont_write_bytecode,
    ) == before


def test_one_call_sees_nothing_of_another(context: ToolContext) -> None:
    execute(context, "leak = 1")
    with pytest.raises(ToolFailure, match="NameError"):
        execute(context, "leak")


def test_names_of_the_tool_are_not_visible(context: ToolContext) -> None:
    assert execute(context, "sorted(name for name in globals() if not name.startswith('__'))") == []
    with pytest.raises(ToolFailure, match="NameError"):
        execute(context, "context")


def test_threads_are_waited_for_as_a_script_does(context: ToolContext) -> None:
    code = """
import threading, time
done = []
threading.Thread(target=lambda: (time.sleep(0.05), done.append(1))).start()
threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
done
"""
    assert execute(context, code) == [1]


def test_closed_streams_do_not_hide_the_failure(workspace: Path) -> None:
    ended = execute_apart("import sys\nsys.stderr.close()\nraise ValueError('y')", workspace)
    assert ended.stdout == "failure: ValueError: y ValueError\n"


def test_W7_a_forked_child_ends_where_the_code_does(workspace: Path) -> None:
    code = """
import os
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
print('end of', 'parent' if pid else 'child')
1
"""
    ended = execute_apart(code, workspace)
    assert sorted(ended.stdout.splitlines()) == ["end of child", "end of parent", "result: 1"]


@pytest.mark.parametrize(
    ("last", "status"), [("1", 0), ("raise SystemExit(7)", 7), ("1 / 0", 1), ("raise SystemExit('no')", 1)]
)
def test_W7_a_forked_childs_end_is_its_exit_status(last: str, status: int, workspace: Path) -> None:
    code = f"""
import os
pid = os.fork()
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    {last}
"""
    assert execute_apart(code, workspace).stdout == f"{status}\nresult: None\n"


def test_W7_multiprocessing_works(workspace: Path) -> None:
    code = """
import multiprocessing
def square(n):
    return n * n
with multiprocessing.get_context("fork").Pool(2) as pool:
    squares = pool.map(square, range(5))
squares
"""
    assert execute_apart(code, workspace).stdout == "result: [0, 1, 4, 9, 16]\n"


def test_running_out_of_memory_is_reported_with_its_cause(workspace: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))\n"
    for code in (
        "blocks = []\nwhile True: blocks.append(bytearray(1 << 20))",
        "def f(x): return f([x] * 100_000)\nf(1)",
    ):
        ended = execute_apart(code, workspace, limit)
        assert ended.stdout == "failure: MemoryError MemoryError\n", ended.stderr
        assert "MemoryError" in ended.stderr
