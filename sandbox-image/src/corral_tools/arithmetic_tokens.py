"""The pieces of an arithmetic expression: numbers, names, operators, each with its place."""

from corral_runner.interface import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    #: Kind, value (the number, or the text of a name or operator), index of its first character.
    Token: TypeAlias = tuple[str, int | float | str, int]

NUMBER, NAME, OPERATOR, END = "number", "name", "operator", "end"

#: The argument's name, for errors.
FIELD = "expression"
#: Longer than anything written by hand, and bounds the time an expression can take.
MAX_CHARACTERS = 10_000

_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_BASES = {"0x": 16, "0o": 8, "0b": 2}
_TWO_CHARACTERS = frozenset({"**", "//", "<=", ">=", "==", "!="})
_ONE_CHARACTER = frozenset("+-*/%<>(),[]")
#: What people paste from texts, and which operator they mean.
_TYPOGRAPHIC = {"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u00b7": "*", "\u2264": "<=", "\u2265": ">="}
_REMEDIES = {
    "^": "; a power is written '**'",
    "=": "; equality is written '=='",
    "!": "; a factorial is written 'factorial(n)'",
    "&": "; there are no logical operators",
    "|": "; there are no logical operators",
    "$": "; write the number alone",
    "\u20ac": "; write the number alone",
    "\u221a": "; a root is written 'sqrt(x)'",
}


def tokenize(text: str) -> "list[Token]":
    """Split an expression; the last token is of kind `END`.

    Raises:
        InvalidArgument: it is too long, or some of its characters mean nothing here.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument(FIELD, f"has {len(text)} characters; at most {MAX_CHARACTERS} are taken")
    tokens: list[Token] = []
    index = 0
    while index < len(text):
        character = text[index]
        if character.isspace():
            index += 1
            continue
        start = index
        if character in _DIGITS or (character == "." and text[index + 1 : index + 2] in _DIGITS):
            index = _end_of_number(text, start)
            tokens.append((NUMBER, _number(text[start:index], start), start))
        elif character in _LETTERS:
            index = _end(text, start, _LETTERS | _DIGITS)
            tokens.append((NAME, text[start:index], start))
        else:
            operator = _operator(text, start)
            index += 1 if character in _TYPOGRAPHIC else len(operator)
            tokens.append((OPERATOR, operator, start))
    tokens.append((END, "", len(text)))
    return tokens


def at(index: int) -> str:
    """How an error names a place: characters counted from 1."""
    return f"at character {index + 1}"


def _operator(text: str, start: int) -> str:
    if text[start] in _TYPOGRAPHIC:
        return _TYPOGRAPHIC[text[start]]
    if text[start : start + 2] in _TWO_CHARACTERS:
        return text[start : start + 2]
    if text[start] in _ONE_CHARACTER:
        return text[start]
    remedy = _REMEDIES.get(text[start], "")
    raise InvalidArgument(FIELD, f"{text[start]!r} {at(start)} means nothing here{remedy}")


def _end(text: str, index: int, characters: frozenset[str]) -> int:
    while index < len(text) and text[index] in characters:
        index += 1
    return index


def _end_of_number(text: str, start: int) -> int:
    """Where a number ends, together with letters that run into it: ``12abc`` is a mistake, not ``12 abc``."""
    index = _end(text, start, _DIGITS | _LETTERS | {"."})
    if (
        text[index - 1] in "eE"
        and text[index : index + 1] in {"+", "-"}
        and _is_decimal(text[start : index - 1])
    ):
        index = _end(text, index + 1, _DIGITS | _LETTERS | {"."})
    return index


def _is_decimal(text: str) -> bool:
    return bool(text) and all(character in _DIGITS or character in "._" for character in text)


def _number(text: str, start: int) -> int | float:
    base = _BASES.get(text[:2].lower())
    try:
        if base is not None:
            return int(text[2:], base)
        if all(character in _DIGITS or character == "_" for character in text):
            return int(text)
        if not all(character in _DIGITS or character in "._eE+-" for character in text):
            raise InvalidArgument(FIELD, f"{text!r} {at(start)} is neither a number nor a name")
        number = float(text)
    except ValueError as error:  # also more digits than sys.set_int_max_str_digits allows
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise InvalidArgument(FIELD, f"{shown!r} {at(start)} is not a number that can be read") from error
    if number - number != 0:
        raise InvalidArgument(FIELD, f"{text!r} {at(start)} is larger than any number here (about 1.8e308)")
    return number
