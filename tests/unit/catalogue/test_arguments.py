"""Arguments against a tool's input schema."""

from typing import Any

import pytest

from corral.api import Tool
from corral.catalogue import validate_arguments, with_defaults
from corral.catalogue.arguments import MAX_PROBLEMS, _validator

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "max_lines": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        "mode": {"enum": ["text", "lines"]},
        "options": {
            "type": "object",
            "required": ["width", "height"],
            "properties": {
                "width": {"type": ["integer", "null"]},
                "sizes": {"type": "array", "items": {"type": "number"}},
            },
        },
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    },
}


def tool(schema: dict[str, Any] | None = None) -> Tool:
    wire = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "read_file"},
        "spec": {"description": "x", "inputSchema": schema or SCHEMA, "run": {"builtin": "x"}},
    }
    return Tool.model_validate(wire, context={"corral.trusted": True})


def problems(arguments: dict[str, Any], schema: dict[str, Any] | None = None) -> list[str]:
    return [str(problem) for problem in validate_arguments(tool(schema), arguments)]


def test_arguments_that_fit_have_no_problems() -> None:
    assert problems({"path": "a", "max_lines": 1000, "mode": "text", "either": ["x"]}) == []


def test_A6_every_problem_is_told_with_the_arguments_path() -> None:
    arguments = {
        "path": "",
        "max_lines": "10",
        "mode": "binary",
        "options": {"width": 1.5, "sizes": [1, "2"]},
        "either": [1],
    }
    assert problems(arguments) == [
        "arguments.either[0]: expected a string, found 1",
        'arguments.max_lines: expected a whole number, found "10"',
        'arguments.mode: expected one of "text", "lines", found "binary"',
        "arguments.options.height: is missing",
        'arguments.options.sizes[1]: expected a number, found "2"',
        "arguments.options.width: expected a whole number or null, found 1.5",
        'arguments.path: expected at least 1 characters, found ""',
        'arguments.path: expected text that matches ^[a-z]+$, found ""',
    ]


def test_missing_and_unknown_arguments_are_named() -> None:
    assert problems({"paht": "a"}) == [
        'arguments.paht: unknown argument (did you mean "path"?)',
        "arguments.path: is missing",
    ]
    assert problems({"path": "a", "xyz": 1}) == [
        "arguments.xyz: unknown argument (known are path, max_lines, mode, options, either)"
    ]


def test_bounds_are_told_in_words() -> None:
    assert problems({"path": "a", "max_lines": 0}) == ["arguments.max_lines: expected at least 1, found 0"]
    assert problems({"path": "a", "max_lines": 1001}) == [
        "arguments.max_lines: expected at most 1000, found 1001"
    ]
    assert problems({"a": 3}, {"type": "object", "not": {"required": ["a"]}}) == [
        "arguments: expected what the schema's not asks for, found an object"
    ]


def test_of_several_alternatives_the_one_that_was_meant_is_told() -> None:
    assert problems({"path": "a", "either": 1}) == ["arguments.either: expected a string or a list, found 1"]
    assert problems({"path": "a", "either": ["a", 2]}) == ["arguments.either[1]: expected a string, found 2"]


def test_defaults_of_the_top_level_are_filled_in_and_checked() -> None:
    assert with_defaults(tool(), {"path": "a"}) == {"path": "a", "max_lines": 100}
    assert with_defaults(tool(), {"path": "a", "max_lines": None}) == {"path": "a", "max_lines": None}
    required = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "default": 1}}}
    assert problems({}, required) == []


def test_what_is_no_json_is_refused_before_the_schema_is_asked() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert problems({"path": deep}) != []
    assert problems({"path": float("nan")}) == ["arguments.path: expected a finite number"]
    assert problems({"path": "\ud800"}) == ["arguments.path: expected text without lone surrogates"]
    assert problems({"path": 2**70})[0].startswith(
        "arguments.path: expected a whole number of at most 64 bits"
    )


def test_the_number_of_problems_is_bounded() -> None:
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "string"}}}}
    assert len(problems({"list": list(range(10_000))}, schema)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$ref": "http://127.0.0.1:1/x"}, "cannot be used"),
        ({"$ref": "#/gone"}, "cannot be used"),
        ({"pattern": "("}, "cannot be used"),
        ({"$ref": "#/foo"}, "cannot be used"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_problem_and_no_crash(part: dict[str, Any], why: str) -> None:
    schema = (
        {"type": "object", "properties": {"a": part}} if "$ref" not in part or part["$ref"] != "#" else part
    )
    schema = {"foo": {"minLength": "a"}, **schema}
    (problem,) = problems({"a": "x"}, schema)
    assert why in problem


def test_a_schema_is_compiled_once() -> None:
    schema = {"type": "object", "title": "compiled once"}
    _validator.cache_clear()
    for _ in range(3):
        validate_arguments(tool(schema), {})
    assert _validator.cache_info().misses == 1


def test_problems_of_a_step_carry_its_path() -> None:
    (problem,) = validate_arguments(tool(), {}, prefix=("spec", "steps", 2, "arguments"))
    assert problem.path == "spec.steps[2].arguments.path"
