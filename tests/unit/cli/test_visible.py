"""Control characters are shown, not obeyed."""

import json
import re
import unicodedata

import yaml
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.documents import document, kubernetes_list
from corral.cli.formats import Format
from corral.cli.visible import VisibleStream, is_obeyed, one_line, visible


def test_escape_sequences_become_visible() -> None:
    assert visible("\x1b[2J\x1b]0;title\x07done\x7f") == "␛[2J␛]0;title␇done␡"
    assert visible("\x9b2J") == "\\x9b2J"
    assert visible("safe\u202egnp.exe") == "safe\\u202egnp.exe"


def test_newline_and_tab_pass_and_a_return_ends_the_line() -> None:
    assert visible("a\tb\nc\r\nd\re") == "a\tb\nc\nd\ne"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = visible(text)

    assert not [char for char in shown if unicodedata.category(char) == "Cc" and char not in "\n\t"]
    assert not is_obeyed(shown)


@given(st.binary(), st.data())
def test_a_stream_cut_anywhere_shows_the_same_as_the_whole(data: bytes, cuts: st.DataObject) -> None:
    places = sorted(cuts.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    stream = VisibleStream()
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]

    shown = "".join(stream.feed(piece) for piece in pieces) + stream.end()

    assert shown == visible(data.decode(errors="replace"))


def test_one_line_is_one_line_and_no_longer() -> None:
    assert one_line("  a\n\n b\t c ", 80) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
    assert one_line("\x1b[31mred", 80) == "␛[31mred"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(_JSON)
def test_a_json_document_says_the_value_and_nothing_to_a_terminal(value: object) -> None:
    text = document(value, Format.JSON)

    assert json.loads(text) == value
    assert not is_obeyed(text)


@given(_JSON)
def test_a_yaml_document_says_the_value_and_nothing_to_a_terminal(value: object) -> None:
    text = document(value, Format.YAML)

    assert yaml.safe_load(text) == value
    assert not is_obeyed(text)


def test_texts_of_several_lines_are_blocks_in_yaml() -> None:
    assert document({"code": "a = 1\nprint(a)\n"}, Format.YAML) == "code: |\n  a = 1\n  print(a)\n"


def test_several_documents_are_one_list() -> None:
    text = document(kubernetes_list([{"a": 1}]), Format.JSON)

    assert re.sub(r"\s+", "", text) == '{"apiVersion":"v1","kind":"List","items":[{"a":1}]}'
