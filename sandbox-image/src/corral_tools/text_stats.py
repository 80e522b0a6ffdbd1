"""Count what a text is made of, and estimate how long it takes to read."""

import re

from corral_runner.interface import InvalidArgument
from corral_tools import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

MAX_TEXT_BYTES = 16 << 20
#: Words a minute, adults reading English silently: the mean of 190 studies (Brysbaert 2019,
#: https://doi.org/10.1016/j.jml.2019.104047).
WORDS_PER_MINUTE = 238

#: Letters and digits, joined by single apostrophes, hyphens or points: don't, state-of-the-art, 3.14.
_WORD = re.compile(r"\w+(?:['\u2019.\-]\w+)*")
#: A sentence ends with its marks, closing quotes and brackets, and then a space or the end of the text. The
#: look behind keeps a long run of marks from being tried at each of them.
_SENTENCE_END = re.compile(r"(?<![.!?\u2026])[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+")
_PARAGRAPH_BREAK = re.compile(r"\n[ \t\r]*\n")
#: A word longer than this is data; the table of top words shows its start.
_WORD_CHARACTERS = 100


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The numbers of the text given as ``text``, or of the workspace file at ``path``."""
    from collections import Counter

    text = _text(arguments, context)
    words = _WORD.findall(text)
    counted = Counter(word.casefold() for word in words)
    # Ties in the order of the words, so that the same text gives the same table.
    top = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[: arguments.get("top", 10)]
    return {
        "characters": len(text),
        "characters_without_spaces": sum(not character.isspace() for character in text),
        "bytes": len(text.encode("utf-8", "surrogatepass")),
        "words": len(words),
        "unique_words": len(counted),
        "lines": text.count("\n") + (not text.endswith("\n")) if text else 0,
        "sentences": _sentences(text),
        "paragraphs": sum(bool(part.strip()) for part in _PARAGRAPH_BREAK.split(text)),
        "average_word_length": round(sum(map(len, words)) / len(words), 2) if words else 0.0,
        "reading_time_seconds": round(len(words) * 60 / WORDS_PER_MINUTE),
        "top_words": [{"word": word[:_WORD_CHARACTERS], "count": count} for word, count in top],
    }


def _text(arguments: "Mapping[str, Any]", context: "ToolContext") -> str:
    text: str | None = arguments.get("text")
    path: str | None = arguments.get("path")
    if (text is None) == (path is None):
        raise InvalidArgument("text", "give either 'text' or 'path' (a workspace file)")
    if path is not None:
        return files.read_text(path, context, limit_bytes=MAX_TEXT_BYTES)
    assert text is not None
    return text


def _sentences(text: str) -> int:
    """How many sentences; a rest without a mark at its end, such as a headline, is one."""
    count = 0
    end = 0
    for found in _SENTENCE_END.finditer(text):
        count += _WORD.search(text, end, found.start()) is not None
        end = found.end()
    return count + (_WORD.search(text, end) is not None)
