"""A7: schemas and arguments of people nobody knows are checked where they can do no harm."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import corral.catalogue.checker as subject
from corral.api import Tool
from corral.catalogue import validate_arguments
from corral.catalogue.checker import ArgumentChecker, CheckerUnavailableError

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
BACKTRACKING = r"^(a|aa)+$"
ENDLESS = "a" * 200 + "!"


def tool(**schema: Any) -> Tool:
    wire = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "theirs"},
        "spec": {"description": "x", "inputSchema": {"type": "object", **schema}, "run": {"builtin": "x"}},
    }
    return Tool.model_validate(wire)


def doubling(levels: int) -> dict[str, Any]:
    """Return a schema in which every level refers to the next one twice."""
    parts: dict[str, Any] = {
        f"level{n}": {"allOf": [{"$ref": f"#/$defs/level{n + 1}"}] * 2} for n in range(levels)
    }
    return {"$defs": {**parts, f"level{levels}": {}}, "$ref": "#/$defs/level0"}


#: Schemas that a Tool may have, and arguments: each keeps a validator busy for ever.
HOSTILE: list[tuple[dict[str, Any], Any]] = [
    ({"properties": {"a": {"pattern": BACKTRACKING}}}, {"a": ENDLESS}),
    ({"patternProperties": {BACKTRACKING: {}}, "additionalProperties": False}, {ENDLESS: 1}),
    ({"unevaluatedProperties": False, "patternProperties": {BACKTRACKING: {}}}, {ENDLESS: 1}),
    ({"properties": {"default": {"$schema": DRAFT_7, "pattern": BACKTRACKING}}}, {"default": ENDLESS}),
    (
        {
            "default": {"$schema": DRAFT_7, "pattern": BACKTRACKING},
            "properties": {"a": {"$ref": "#/default"}},
        },
        {"a": ENDLESS},
    ),
    (doubling(40), {"a": 1}),
    ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": n} for n in range(20_000)]}),
]


@pytest.fixture
async def checker() -> AsyncIterator[ArgumentChecker]:
    checker = ArgumentChecker()
    yield checker
    await checker.close()


async def test_it_says_what_is_wrong_and_remembers(checker: ArgumentChecker) -> None:
    theirs = tool(properties={"n": {"type": "integer", "default": 1}}, additionalProperties=False)
    for arguments in ({"n": 1}, {}, {"n": "x"}, {"m": 1}):
        assert checker.known(theirs, arguments) is None
        found = await checker.check(theirs, arguments)
        assert list(found) == validate_arguments(theirs, arguments)
        assert checker.known(theirs, arguments) == found


@pytest.mark.parametrize(("schema", "arguments"), HOSTILE)
async def test_A7_what_would_take_for_ever_is_given_up_and_the_next_is_checked(
    checker: ArgumentChecker, schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.get_running_loop().create_task(count())
    (problem,) = await checker.check(tool(**schema), arguments)
    counting.cancel()
    assert "took too much time or memory" in problem.message
    assert "pass large values as files" in (problem.remedy or "")
    assert turns > 5, "the event loop had no turn meanwhile"
    assert await checker.check(tool(), {"a": 1}) == ()


@pytest.mark.parametrize(("schema", "arguments"), HOSTILE)
def test_A7_counterproof_without_the_limits_it_does_go_on(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    code = (
        "import json, sys; from jsonschema import Draft202012Validator as V; sys.setrecursionlimit(10000)\n"
        "schema, arguments = json.load(sys.stdin); print('started', flush=True)\n"
        "list(V(schema).iter_errors(arguments))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([schema, arguments]).encode())
        process.stdin.close()
        assert process.stdout.readline() == b"started\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.5)
        process.kill()


async def test_A7_what_takes_too_much_memory_is_given_up(
    checker: ArgumentChecker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Nothing that jsonschema does takes memory faster than time, so the process itself is made to.
    module = tmp_path / "greedy.py"
    module.write_text(
        "from corral.catalogue import checking_process as it\n"
        "def take(tool, arguments):\n    return [0] * (1 << 30)\n"
        "it.validate_arguments = take\nit.main()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(subject, "_PROCESS", "greedy")
    (problem,) = await checker.check(tool(), {})
    assert "took too much time or memory" in problem.message


async def test_B13_a_process_that_was_killed_is_started_again(checker: ArgumentChecker) -> None:
    assert await checker.check(tool(), {"a": 1}) == ()
    process = checker._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await checker.check(tool(), {"a": 2}) == ()


async def test_A7_who_gives_up_waiting_leaves_no_answer_to_the_next(checker: ArgumentChecker) -> None:
    for number in range(20):
        asking = asyncio.get_running_loop().create_task(checker.check(tool(required=["b"]), {"a": number}))
        await asyncio.sleep(number / 1000)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await checker.check(tool(), {"a": number}) == ()


async def test_A7_nothing_counts_as_checked_where_nobody_can(
    checker: ArgumentChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_PROCESS", "no_such_module")
    with pytest.raises(CheckerUnavailableError):
        await checker.check(tool(), {"a": 1})
    assert checker.known(tool(), {"a": 1}) is None


async def test_A7_many_ask_at_once(checker: ArgumentChecker) -> None:
    found = await asyncio.gather(*(checker.check(tool(required=["b"]), {"a": n % 7}) for n in range(50)))
    assert {len(problems) for problems in found} == {1}


async def test_A7_verdicts_are_forgotten_before_they_fill_the_memory(
    checker: ArgumentChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_KEPT", 3)
    for number in range(5):
        await checker.check(tool(), {"a": number})
    assert [checker.known(tool(), {"a": number}) is not None for number in range(5)] == [False] * 2 + [
        True
    ] * 3
