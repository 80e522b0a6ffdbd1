"""json_query: JMESPath over a text or a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, json_query

PEOPLE = json.dumps({"people": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 20}], "a b": {"c": None}})


def query(context: ToolContext, expression: str, document: str = PEOPLE, **more: Any) -> Any:
    return json_query.run({"query": expression, "json": document, **more}, context)


def query_file(context: ToolContext, expression: str, path: str, **more: Any) -> Any:
    return json_query.run({"query": expression, "path": path, **more}, context)


@pytest.mark.parametrize(
    ("expression", "value", "kind"),
    [
        ("people[0].name", "Ada", "string"),
        ("people[-1].age", 20, "number"),
        ("people[*].age", [36, 20], "array"),
        ("people[?age > `30`].name", ["Ada"], "array"),
        ("people[?age > `30`] | length(@)", 1, "number"),
        ("sort_by(people, &age)[0]", {"name": "Bob", "age": 20}, "object"),
        ('"a b".c', None, "null"),
        ("nothing.here", None, "null"),
        ("contains(people[0].name, 'A')", True, "boolean"),
        ("{n: people[].name, total: sum(people[].age)}", {"n": ["Ada", "Bob"], "total": 56}, "object"),
    ],
)
def test_an_expression_finds_its_value(expression: str, value: Any, kind: str, context: ToolContext) -> None:
    assert query(context, expression) == {"value": value, "type": kind, "truncated": False}


def test_the_document_can_be_a_file(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.json").write_text("\ufeff[1, 2]")
    assert query_file(context, "[1]", "a.json")["value"] == 2


def test_json_lines_are_a_list(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.jsonl").write_text('{"n": 1}\n\n  \n{"n": 2}\n')
    assert query_file(context, "[].n", "a.jsonl", json_lines=True)["value"] == [1, 2]
    with pytest.raises(InvalidArgument, match="json: is not JSON: line 2"):
        query(context, "@", "1\nx\n", json_lines=True)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("people[", "character 8"),
        ("", "cannot be empty"),
        ("a b", "character 3"),
        ("#", "JMESPath"),
        ("!" * 5000 + "a", "nested too deep"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(
    expression: str, why: str, context: ToolContext
) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        query(context, expression)
    assert caught.value.field == "query"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "expression",
    [
        "length(`1`)",
        "sort_by(people, &nothing)",
        "sum(people[].name)",
        'sort(`[1, "a"]`)',
        "&name",
        "max_by(people, &@)",
    ],
)
def test_an_expression_that_does_not_fit_the_document_is_a_failure(
    expression: str, context: ToolContext
) -> None:
    with pytest.raises(ToolFailure):
        query(context, expression)


def test_numbers_that_are_none_do_not_come_out(context: ToolContext) -> None:
    with pytest.raises(ToolFailure, match="not a JSON value"):
        query(context, "to_number('nan')")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("", "Expecting value"),
        ("{", "line 1"),
        ("[NaN]", "NaN is no JSON number"),
        ("[-Infinity]", "Infinity is no JSON number"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "digits"),
        ("{} {}", "Extra data"),
    ],
)
def test_what_is_no_json_is_refused(document: str, why: str, workspace: Path, context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        query(context, "@", document)
    assert caught.value.field == "json"
    (workspace / "a.json").write_text(document)
    with pytest.raises(ToolFailure, match=rf"'a\.json' is not JSON.*{why}"):
        json_query.run({"query": "@", "path": "a.json"}, context)


def test_one_document_is_given(context: ToolContext) -> None:
    for arguments in ({}, {"json": "1", "path": "a"}):
        with pytest.raises(InvalidArgument, match="give either"):
            json_query.run({"query": "@", **arguments}, context)


def test_A7_a_file_outside_is_refused(context: ToolContext) -> None:
    with pytest.raises(PermissionRefused):
        json_query.run({"query": "@", "path": "../secret.txt"}, context)


def test_a_long_list_is_cut_and_another_large_value_refused_with_a_remedy(context: ToolContext) -> None:
    large = json.dumps({"list": [{"n": number} for number in range(100_000)]})
    result = query(context, "list", large)
    assert (result["type"], result["truncated"]) == ("array", True)
    assert result["value"][0] == {"n": 0}
    assert len(json.dumps(result["value"])) <= bounds.RESULT_BYTES
    assert query(context, "length(list)", large)["value"] == 100_000
    with pytest.raises(ToolFailure, match=r"keys\(@\)"):
        query(context, "@", large)


def test_what_not_every_reader_of_json_keeps_is_described(context: ToolContext) -> None:
    assert query(context, "@", "[9223372036854775808, 1]")["value"] == [
        {"type": "int", "repr": "9223372036854775808"},
        1,
    ]
    assert query(context, "@", '"\\ud800"')["value"] == {"type": "str", "repr": "'\\ud800'"}
