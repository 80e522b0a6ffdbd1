"""``key=value`` read by the schema, and written back."""

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.arguments import format_argument, parse_arguments, types_of
from corral.cli.exits import BadInputError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"count": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}},
    "properties": {
        "text": {"type": "string"},
        "whole": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "options": {"type": "object"},
        "perhaps": {"type": ["string", "null"]},
        "value": {"type": ["string", "number", "boolean"]},
        "choice": {"enum": ["fast", "slow"]},
        "level": {"enum": [1, 2]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]},
        "referred": {"$ref": "#/$defs/count"},
        "endless": {"$ref": "#/$defs/loop"},
        "anything": {},
        "always": True,
    },
}


def refuse(reference: str) -> str:
    raise AssertionError(f"nothing should be read, {reference} was")


def parse(*words: str) -> dict[str, Any]:
    return parse_arguments(words, SCHEMA, refuse)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b=c", "a=b=c"),
        ("text=true", "true"),
        ("text=two\nlines", "two\nlines"),
        ("whole=5", 5),
        ("whole=-5", -5),
        ("whole=+5", 5),
        ("share=5", 5),
        ("share=0.5", 0.5),
        ("share=1e3", 1000.0),
        ("flag=true", True),
        ("flag=No", False),
        ("names=one", ["one"]),
        ('names=["one", "two"]', ["one", "two"]),
        ("numbers=7", [7]),
        ('options={"a": [1]}', {"a": [1]}),
        ("perhaps=null", None),
        ("perhaps=nothing", "nothing"),
        ("value=5", 5),
        ("value=true", True),
        ("value=yes", "yes"),
        ("value=1.2.3", "1.2.3"),
        ("choice=fast", "fast"),
        ("level=2", 2),
        ("either=3", 3),
        ("either=x", ["x"]),
        ("referred=3", 3),
        ("endless=3", 3),
        ("anything=5", 5),
        ("anything=[1]", [1]),
        ("anything=[1", "[1"),
        ("anything=word", "word"),
        ("always=null", None),
        ("unknown=5", 5),
        ('text:="5"', "5"),
        ("text:=5", 5),
        ('options:={"a": null}', {"a": None}),
        ("anything=" + "9" * 500, "9" * 500),
    ],
)
def test_a_value_is_read_as_its_schema_says(word: str, value: Any) -> None:
    (read,) = parse(word).values()

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("whole=five", 'whole: expected a whole number, found "five"'),
        ("whole=1.5", 'whole: expected a whole number, found "1.5"'),
        ("share=nan", 'share: expected a number, found "nan"'),
        ("flag=2", 'flag: expected true or false, found "2"'),
        ("options=5", 'options: expected a JSON object, found "5"'),
        (
            "options={5}",
            "options: expected JSON, expecting property name enclosed in double quotes at line 1, column 2",
        ),
        ("numbers=x", 'numbers: expected a whole number, found "x"'),
        ("text:=five", "text: expected JSON after :=, expecting value at line 1, column 1"),
        ("text:=NaN", "text: expected JSON after :=, found NaN, which is no JSON"),
        ("text:=" + "[" * 100_000, "text: expected JSON after :=, nested too deeply"),
        ("6 * 7", 'expected key=value, found "6 * 7"; put a value with spaces in quotes'),
        ("=5", 'expected key=value, found "=5"; put a value with spaces in quotes'),
        (":=5", 'expected key=value, found ":=5"; put a value with spaces in quotes'),
    ],
)
def test_what_cannot_be_read_is_told(word: str, problem: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(word)

    assert caught.value.problems == (problem,)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadInputError) as caught:
        parse("whole=a", "flag=b", "text=right", "c")

    assert [problem.split(":")[0] for problem in caught.value.problems[:2]] == ["whole", "flag"]
    assert len(caught.value.problems) == 3


def test_a_list_may_be_given_in_several_words() -> None:
    assert parse("names=a", "text=x", "names=b") == {"names": ["a", "b"], "text": "x"}


def test_anything_else_may_not_be_given_twice() -> None:
    with pytest.raises(BadInputError, match="text: given twice"):
        parse("text=a", "text=b")


def test_files_and_standard_input_are_read_through_who_calls() -> None:
    read = {"@numbers.json": "[1, 2]", "-": "three\n"}

    assert parse_arguments(["numbers=@numbers.json", "text=-"], SCHEMA, read.__getitem__) == {
        "numbers": [1, 2],
        "text": "three\n",
    }
    assert parse_arguments(["text:=@numbers.json"], SCHEMA, read.__getitem__) == {"text": [1, 2]}


@given(name=st.sampled_from([*SCHEMA["properties"], "unknown"]), value=st.data())
def test_what_is_written_as_a_word_is_read_as_the_same_value(name: str, value: st.DataObject) -> None:
    wanted = value.draw(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        )
    )
    # A NUL cannot be in an argument of a process, and a lone surrogate is no text.

    (word,) = shlex.split(format_argument(name, wanted, SCHEMA))

    assert repr(parse(word)[name]) == repr(wanted)


def test_a_word_is_quoted_as_a_person_would() -> None:
    assert format_argument("text", "6 * 7", SCHEMA) == "text='6 * 7'"
    assert format_argument("text", "print('hi')", SCHEMA) == "text=\"print('hi')\""
    assert format_argument("whole", 5, SCHEMA) == "whole=5"
    assert format_argument("text", "-", SCHEMA) == "text:='\"-\"'"
    assert format_argument("text", "@home", SCHEMA) == "text:='\"@home\"'"


def test_types_follow_references_but_not_for_ever() -> None:
    assert types_of(SCHEMA["properties"]["referred"], SCHEMA) == frozenset({"integer"})
    assert types_of(SCHEMA["properties"]["endless"], SCHEMA) is None
    assert types_of({"$ref": "#/nowhere"}, SCHEMA) is None
    assert types_of({"$ref": "https://example.com/schema"}, SCHEMA) is None
