"""What a plain YAML scalar means, as sigs.k8s.io/yaml reads it on its way to JSON."""

import re
from typing import Any

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
#: YAML 1.1's booleans without y and n, which most people mean as text.
_BOOLEANS = {
    **{form(word): True for word in ("true", "yes", "on") for form in (str.lower, str.title, str.upper)},
    **{form(word): False for word in ("false", "no", "off") for form in (str.lower, str.title, str.upper)},
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"(?P<sign>[-+]?)0(?P<base>[xob]?)(?P<digits>[0-9a-fA-F]+)")
_BASES = {"x": (16, "0123456789abcdef"), "o": (8, "01234567"), "": (8, "01234567"), "b": (2, "01")}
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
#: More digits are no number that anybody counts with, and Python converts them in quadratic time.
MAX_DIGITS = 400


def resolve_plain(text: str) -> Any:
    """Return the JSON value of a scalar without quotes. A date stays text, as JSON has no dates.

    Raises:
        ValueError: it is a number of too many digits.
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    return _number(text)


def _number(text: str) -> Any:
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits")
        return int(text)
    other = _OTHER_BASE.fullmatch(text)
    if other is not None:
        base, alphabet = _BASES[other["base"]]
        if set(other["digits"].lower()) <= set(alphabet) and len(text) <= MAX_DIGITS:
            return int(other["sign"] + other["digits"], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _SPECIAL.fullmatch(text) else text
