"""text_stats: what a text is made of."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import text_stats


def stats(text: str, **more: Any) -> Any:
    return text_stats.run({"text": text, **more}, ToolContext("/"))


def stats_of_file(path: str, context: ToolContext) -> Any:
    return text_stats.run({"path": path}, context)


def test_a_text_is_counted() -> None:
    assert stats("One fish, two fish.\nRed fish? Blue fish!\n\nThe end", top=2) == {
        "characters": 49,
        "characters_without_spaces": 39,
        "bytes": 49,
        "words": 10,
        "unique_words": 7,
        "lines": 4,
        "sentences": 4,
        "paragraphs": 2,
        "average_word_length": 3.5,
        "reading_time_seconds": 3,
        "top_words": [{"word": "fish", "count": 4}, {"word": "blue", "count": 1}],
    }


def test_an_empty_text_is_all_zeros() -> None:
    result = stats("")
    assert result.pop("top_words") == []
    assert set(result.values()) == {0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't state-of-the-art 3.14", 3),
        ("a -- b", 2),
        ("über Straße", 2),
        ("Привет мир", 2),
        ("U.S.A. e.g.", 2),
        ("...", 0),
        ("it\u2019s", 1),
    ],
)
def test_words_are_counted_as_people_do(text: str, words: int) -> None:
    assert stats(text)["words"] == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello", 1),
        ("Hello.", 1),
        ("Is it 3.14? Yes!", 2),
        ("Wait... what?! No.", 3),
        ('He said "Stop." Then left.', 2),
        ("(Really.) Yes.", 2),
        ("今日は。元気\uff1f", 2),
        ("... !!! ???", 0),
        ("A headline\n\nA sentence.", 1),
    ],
)
def test_sentences_are_counted_by_their_punctuation(text: str, sentences: int) -> None:
    assert stats(text)["sentences"] == sentences


@pytest.mark.parametrize(
    ("text", "lines", "paragraphs"),
    [
        ("a", 1, 1),
        ("a\n", 1, 1),
        ("a\nb", 2, 1),
        ("\n", 1, 0),
        ("a\n\n\n \nb", 5, 2),
        ("\n\na\n\n", 4, 1),
        ("a\r\n\r\nb", 3, 2),
    ],
)
def test_lines_and_paragraphs(text: str, lines: int, paragraphs: int) -> None:
    result = stats(text)
    assert (result["lines"], result["paragraphs"]) == (lines, paragraphs)


def test_frequent_words_ignore_case_and_are_in_a_fixed_order() -> None:
    assert stats("b B a A c ẞ ss", top=3)["top_words"] == [
        {"word": "a", "count": 2},
        {"word": "b", "count": 2},
        {"word": "ss", "count": 2},
    ]
    assert stats("a b c", top=0)["top_words"] == []


def test_characters_and_bytes_differ_outside_ascii() -> None:
    result = stats("ü😀")
    assert (result["characters"], result["bytes"]) == (2, 6)


def test_a_file_is_read(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.txt").write_text("one two\n")
    assert stats_of_file("a.txt", context)["words"] == 2
    (workspace / "b").write_bytes(b"\xff")
    with pytest.raises(ToolFailure, match="not UTF-8"):
        text_stats.run({"path": "b"}, context)
    with pytest.raises(PermissionRefused):
        text_stats.run({"path": "../secret.txt"}, context)


def test_one_text_is_given(context: ToolContext) -> None:
    for arguments in ({}, {"text": "a", "path": "b"}):
        with pytest.raises(InvalidArgument, match="give either"):
            text_stats.run(arguments, context)


@given(st.text())
def test_any_text_can_be_counted(text: str) -> None:
    result = stats(text)
    assert result["unique_words"] <= result["words"] <= result["characters"]
    assert result["characters_without_spaces"] <= result["characters"] <= result["bytes"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [".", ".x", "a.", "\n", " ", "a'", "\n \n", '."', "!?"])
def test_no_text_takes_time_out_of_proportion(piece: str) -> None:
    """Each takes a fraction of a second; a pattern that looks back over the whole text would take hours."""
    assert stats(piece * 200_000)["characters"] == len(piece) * 200_000
