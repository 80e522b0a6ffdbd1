"""Which tools answer a query best: words, beginnings of words, and words with a slip in them."""

import re
from collections.abc import Iterable, Sequence

from corral.api import Tool

# Powers of three: what is found in one place outweighs the same in all places after it.
_NAME, _TAG, _CATEGORY, _DESCRIPTION = 27.0, 9.0, 3.0, 1.0
# A slip in a name is worth less than the very word as a tag.
_EXACT, _PREFIX, _TYPO = 1.0, 0.75, 0.2

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: Words that say nothing about a tool; a query of nothing else is taken as it is.
_STOP_WORDS = frozenset(
    ["a", "an", "and", "for", "from", "in", "into", "is", "of", "on", "or", "the", "to", "with"]
)
#: A query is a phrase; more words than this are no help and cost time.
_MAX_WORDS = 16


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case; ``readFile``, ``read_file`` and ``read-file`` have two."""
    return _WORD.findall(_HUMP.sub(" ", text).casefold())


def rank(tools: Iterable[Tool], query: str) -> list[Tool]:
    """Return the tools that have to do with a query, best first; for an empty query all, by name.

    First come those in which the most words of the query are found, then those where they are found in the
    better place: name, tags, category, description. Equals are ordered by name.
    """
    words = list(dict.fromkeys(tokens(query)))[:_MAX_WORDS]
    words = [word for word in words if word not in _STOP_WORDS] or words
    if not words:
        return sorted(tools, key=lambda tool: tool.name)
    scored = []
    for tool in tools:
        scores = [score for word in words if (score := _score(word, _fields(tool))) > 0]
        if scores:
            scored.append((-len(scores), -sum(scores), tool.name, tool))
    scored.sort(key=lambda entry: entry[:3])
    return [tool for *_, tool in scored]


def _fields(tool: Tool) -> Sequence[tuple[float, list[str]]]:
    spec = tool.spec
    return (
        (_NAME, tokens(tool.name)),
        (_TAG, [word for tag in spec.tags for word in tokens(tag)]),
        (_CATEGORY, tokens(spec.category)),
        (_DESCRIPTION, tokens(spec.description)),
    )


def _score(word: str, fields: Sequence[tuple[float, list[str]]]) -> float:
    return sum(
        weight * max((_likeness(word, other) for other in words), default=0.0) for weight, words in fields
    )


def _likeness(word: str, other: str) -> float:
    if word == other:
        return _EXACT
    if len(word) >= 2 and other.startswith(word):
        return _PREFIX
    slips = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
    return _TYPO if slips and _within(word, other, slips) else 0.0


def _within(word: str, other: str, slips: int) -> bool:
    """Say whether at most so many letters are wrong, missing, added or swapped with their neighbour."""
    if abs(len(word) - len(other)) > slips:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, start=1):
        above, before, row = before, row, [i]
        for j, target in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != target))
            if above and j > 1 and letter == other[j - 2] and word[i - 2] == target:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) > slips:
            return False
    return row[-1] <= slips
