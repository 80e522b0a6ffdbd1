"""Finding tools by words."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import Tool
from corral.catalogue import Catalogue
from corral.catalogue.search import rank, tokens


def tool(name: str, description: str = "Does it.", **spec: Any) -> Tool:
    return Tool.from_wire(
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "Tool",
            "metadata": {"name": name},
            "spec": {"description": description, "run": {"builtin": "x"}, **spec},
        }
    )


TOOLS = [
    tool("read_file", "Read a text file.", category="files", tags=["text"]),
    tool("write_file", "Write a file.", category="files", dangerous=True),
    tool("csv_query", "Query tables with SQL.", category="data", tags=["table", "sql"]),
    tool("table", "Draw it.", category="output"),
    tool("python", "Run Python code.", category="code", tags=["script", "calculation"], dangerous=True),
    tool("calculator", "Evaluate an expression.", category="calculation", tags=["math"]),
    tool("report", "Make a table of a calculation.", category="output"),
]
CATALOGUE = Catalogue(TOOLS)


def found(query: str = "", **options: Any) -> list[str]:
    return [tool.name for tool in CATALOGUE.discover(query, **options)]


def test_M7_a_name_goes_before_a_tag_before_a_category_before_a_description() -> None:
    assert found("table") == ["table", "csv_query", "report"]
    assert found("calculation") == ["python", "calculator", "report"]


def test_M7_more_of_the_words_found_goes_first() -> None:
    assert found("read file")[:2] == ["read_file", "write_file"]
    assert found("table of calculation")[0] == "report"


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("calc", "calculator"),  # a beginning
        ("pyhton", "python"),  # swapped
        ("pythn", "python"),  # one missing
        ("calculaotr", "calculator"),
        ("ReadFile", "read_file"),  # as programs write it
        ("read-file", "read_file"),
        ("PYTHON!", "python"),
        ("to run the code", "python"),  # words that say nothing are left out
    ],
)
def test_M7_beginnings_slips_and_spellings_are_understood(query: str, best: str) -> None:
    assert found(query)[0] == best


def test_M7_what_is_not_like_anything_is_not_found() -> None:
    assert found("kubernetes") == []
    assert found("sqk") == []  # short words must be right


def test_M7_an_empty_query_lists_all_by_name() -> None:
    assert found() == sorted(tool.name for tool in TOOLS)
    assert found("  ?! ") == found()


def test_M7_results_are_kept_to_categories_tags_and_what_does_no_harm() -> None:
    assert found(categories=["files", "data"]) == ["csv_query", "read_file", "write_file"]
    assert found(tags=["SQL", "math"]) == ["calculator", "csv_query"]
    assert found("file", exclude_dangerous=True) == ["read_file"]
    assert found(categories=["files"], tags=["text"], max_results=5) == ["read_file"]
    assert found(max_results=2) == ["calculator", "csv_query"]


def test_words_are_taken_out_of_any_spelling() -> None:
    assert tokens("readFile read_file READ-FILE, über 2x") == [
        "read",
        "file",
        "read",
        "file",
        "read",
        "file",
        "über",
        "2x",
    ]


@given(st.text(max_size=40), st.permutations(TOOLS))
def test_the_order_does_not_depend_on_the_order_of_registration(query: str, shuffled: list[Tool]) -> None:
    assert rank(shuffled, query) == rank(TOOLS, query)


def test_a_query_of_many_words_is_bounded() -> None:
    start = time.process_time()
    rank(TOOLS, "calculaotr " * 2 + " ".join(f"word{number}" for number in range(100_000)))
    assert time.process_time() - start < 2  # 100,000 words against each tool would take minutes
