"""Which values are JSON that every party on the way can carry."""

import math
from collections.abc import Iterator
from typing import Any

from corral.api.errors import Finding, Location

#: Deep enough for any real argument, far from the recursion limits of JSON libraries along the way.
MAX_JSON_DEPTH = 64


def json_problem(value: Any, max_depth: int = MAX_JSON_DEPTH, *, any_integer: bool = False) -> Finding | None:
    """Say why a value is not JSON that every party on the way can carry; None if it is.

    Refused are: other types than JSON's (a date, bytes), keys that are no strings, NaN and infinities, whole
    numbers beyond 64 bits (the API server would round them) unless ``any_integer``, lone surrogates, more
    than ``max_depth`` levels.
    """
    pending: list[tuple[Any, Location]] = [(value, ())]
    while pending:
        item, location = pending.pop()
        if not isinstance(item, dict | list | tuple):
            finding = _scalar_problem(item, location, any_integer=any_integer)
            if finding is not None:
                return finding
        elif len(location) >= max_depth:
            return Finding(location, f"expected at most {max_depth} levels of nesting")
        else:
            for key, part in _parts(item):
                if isinstance(key, str) and not encodes(key):
                    return Finding((*location, ascii(key)), "expected text without lone surrogates")
                if not isinstance(key, str | int) or (isinstance(key, int) and isinstance(item, dict)):
                    return Finding((*location, str(key)), "expected keys that are strings")
                pending.append((part, (*location, key)))
    return None


def _parts(item: Any) -> Iterator[tuple[Any, Any]]:
    return iter(item.items() if isinstance(item, dict) else enumerate(item))


def _scalar_problem(item: Any, location: Location, *, any_integer: bool) -> Finding | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        return None if encodes(item) else Finding(location, "expected text without lone surrogates")
    if isinstance(item, float):
        return None if math.isfinite(item) else Finding(location, "expected a finite number")
    if not isinstance(item, int):
        return Finding(location, f"expected a JSON value, found a {type(item).__name__}")
    if any_integer or -(2**63) <= item < 2**63:
        return None
    return Finding(location, "expected a whole number of at most 64 bits", remedy="write it as a string")


def encodes(text: str) -> bool:
    """Say whether a text has a UTF-8 form: whether it is free of lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
