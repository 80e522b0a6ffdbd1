"""References from one step to another, and from a command to its arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import Reference, ReferenceProblem, find_references, references_in, resolve, walk_path

RESULTS: dict[str, Any] = {"fetch": {"pages": [{"text": "hello"}, {"text": "bye"}], "count": 2, "none": None}}


def lookup(reference: Reference) -> Any:
    if reference.path[0] == "stdout":
        return "printed"
    if reference.name not in RESULTS:
        raise ReferenceProblem(str(reference), "no such step")
    return walk_path(RESULTS[reference.name], reference, reference.path[1:])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(steps.fetch.result)", RESULTS["fetch"]),
        ("$(steps.fetch.result.count)", 2),
        ("$(steps.fetch.result.pages.1.text)", "bye"),
        ("$(steps.fetch.result.pages.0)", {"text": "hello"}),
        ("$(steps.fetch.result.none)", None),
        ("$(steps.fetch.stdout)", "printed"),
    ],
)
def test_a_string_that_is_one_reference_keeps_the_json_type(text: str, value: object) -> None:
    assert resolve(text, lookup) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count: $(steps.fetch.result.count)", "count: 2"),
        ("$(steps.fetch.result.pages.0.text), $(steps.fetch.result.pages.1.text)!", "hello, bye!"),
        ("see $(steps.fetch.result.pages)", 'see [{"text":"hello"},{"text":"bye"}]'),
        ("is $(steps.fetch.result.none)", "is null"),
        (" $(steps.fetch.result.count)", " 2"),
    ],
)
def test_a_reference_inside_of_text_is_put_in(text: str, value: str) -> None:
    assert resolve(text, lookup) == value


@pytest.mark.parametrize(
    "text",
    [
        "echo $(date)",
        "$$(date)",
        "${HOME} $HOME $1",
        "$(arguments.x)",
        "cost: 5$",
        "$()",
        "$(stepsister.a.b)",
        "$(( 1 + 1 ))",
    ],
)
def test_what_is_no_reference_stays_as_it_is(text: str) -> None:
    assert resolve(text, lookup) == text
    assert references_in(text) == set()


def test_an_escaped_reference_becomes_its_text() -> None:
    assert resolve("$$(steps.fetch.result)", lookup) == "$(steps.fetch.result)"
    assert (
        resolve("a $$(steps.fetch.stdout) $(steps.fetch.stdout)", lookup) == "a $(steps.fetch.stdout) printed"
    )
    assert references_in("$$(steps.fetch.result)") == set()


def test_references_are_found_and_replaced_at_any_depth_but_not_in_keys() -> None:
    value = {
        "$(steps.x.result)": ["$(steps.fetch.result.count)", {"deep": ("$(steps.fetch.stdout)", 1, None)}]
    }
    assert resolve(value, lookup) == {"$(steps.x.result)": [2, {"deep": ["printed", 1, None]}]}
    assert [(location, str(reference)) for location, reference in find_references(value)] == [
        (("$(steps.x.result)", 0), "$(steps.fetch.result.count)"),
        (("$(steps.x.result)", 1, "deep", 0), "$(steps.fetch.stdout)"),
    ]


def test_what_is_put_in_is_not_looked_through_again() -> None:
    assert resolve("$(steps.a.result)", lambda _: "$(steps.b.result)") == "$(steps.b.result)"
    assert resolve("x $(steps.a.result)", lambda _: "$(steps.b.result)") == "x $(steps.b.result)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(steps)", r"expected \$\(steps.NAME.result\)"),
        ("$(steps.)", r"expected \$\(steps.NAME.result\)"),
        ("$(steps.a)", "expected one of result, stdout, stderr, reason"),
        ("$(steps.a.output)", "expected one of result, stdout, stderr, reason"),
        ("$(steps.a.stdout.x)", "stdout is text, nothing can follow it"),
        ("$(steps.a..result)", "expected"),
        ("$(steps.a.result", "not closed"),
        ("$(steps.a.result x)", "not closed"),
    ],
)
def test_a_malformed_reference_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ReferenceProblem, match=message) as caught:
        references_in({"list": [1, text]})
    assert caught.value.location == ("list", 1)
    with pytest.raises(ReferenceProblem, match=message):
        resolve({"list": [1, text]}, lookup)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(steps.fetch.result.page)", 'the value has no "page"; it has count, none, pages'),
        ("$(steps.fetch.result.pages.2)", "the list has 2 entries, none with index 2"),
        ("$(steps.fetch.result.pages.first)", 'pages is a list, "first" is no index'),
        ("$(steps.fetch.result.count.x)", 'count is no object, so has no "x"'),
        ("$(steps.fetch.result.pages.²)", "is no index"),
        ("$(steps.gone.result)", "no such step"),
    ],
)
def test_a_reference_to_nothing_says_how_far_it_led(text: str, message: str) -> None:
    with pytest.raises(ReferenceProblem) as caught:
        resolve({"a": text}, lookup)
    assert message in caught.value.message
    assert caught.value.location == ("a",)
    assert str(caught.value).startswith("a: ")


def test_a_small_text_cannot_grow_without_bound() -> None:
    large = "x" * 1000
    with pytest.raises(ReferenceProblem, match="too large"):
        resolve(["$(steps.a.result)"] * 3, lambda _: large, max_bytes=2500)
    assert resolve(["$(steps.a.result)"] * 2, lambda _: large, max_bytes=2500) == [large, large]


def test_arguments_are_another_root() -> None:
    argv = [
        "tool",
        "--name=$(arguments.name)",
        "$(arguments.list)",
        "$(steps.a.result)",
        "$$(arguments.name)",
    ]
    arguments = {"name": "x y", "list": [1]}
    resolved = resolve(argv, lambda reference: arguments[reference.name], "arguments")
    assert resolved == ["tool", "--name=x y", [1], "$(steps.a.result)", "$(arguments.name)"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_values_without_references_come_back_unchanged(value: Any) -> None:
    def nothing(_: Reference) -> Any:
        raise AssertionError("there is nothing to look up")

    if "$(steps" not in repr(value):
        assert resolve(value, nothing) == value


@given(json_values)
def test_any_value_passes_through_a_whole_reference(value: Any) -> None:
    assert resolve({"x": "$(steps.a.result)"}, lambda _: value) == {"x": value}
