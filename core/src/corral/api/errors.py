"""The errors of the contract: one hierarchy, and one shape for what is wrong with a manifest."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Where in a document something is: field names and list indexes.
Location: TypeAlias = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
#: Long enough to recognise a value by, short enough for one line of a terminal.
_FOUND_CHARACTERS = 60


class CorralError(Exception):
    """Whatever Corral itself raises. Catch this to catch all of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a manifest, a request or the arguments of a tool."""

    #: The field, such as ``spec.steps[2].arguments.text``; empty for the document as a whole.
    path: str
    #: One sentence without the path.
    message: str
    #: What would have been right, such as "a quantity such as 256Mi".
    expected: str | None = None
    #: What stands there, shortened.
    found: str | None = None
    #: What to do about it.
    remedy: str | None = None
    #: The file it was read from, if any.
    source: str | None = None
    #: Line and column in that file, from 1.
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text} ({self.remedy})" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that is seen from inside: its place is told relative to the value that was looked at."""

    location: Location
    message: str
    expected: str | None = None
    remedy: str | None = None


class ManifestError(CorralError, ValueError):
    """A manifest is wrong. Nothing of it was used; ``problems`` names all that was found at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class QuantityError(CorralError, ValueError):
    """A text is no quantity or no duration, or is out of bounds. The message says what was expected."""


def format_path(location: Sequence[str | int]) -> str:
    """Write a location as people do: ``spec.steps[2].arguments["a b"]``."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif _PLAIN_KEY.fullmatch(part):
            parts.append(f".{part}" if parts else part)
        else:
            parts.append(f"[{json.dumps(part)}]")
    return "".join(parts)


def describe_found(value: Any) -> str:
    """Show a value in an error: as JSON, shortened, fit for any terminal.

    Args:
        value: anything that came out of a document.
    """
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value[: _FOUND_CHARACTERS + 1] if isinstance(value, str) else value, default=repr)
    return text if len(text) <= _FOUND_CHARACTERS else f"{text[:_FOUND_CHARACTERS]}…"
