"""``key=value`` on a command line, read as the tool's input schema says.

Nothing is read here: who calls hands in how files and standard input are.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corral.cli.exits import BadInputError

#: What a ``$ref`` may lead through; a schema may refer to itself.
_MAX_REFERENCES = 16
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SCALARS = frozenset({"boolean", "integer", "number", "null"})
_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a JSON object",
    "string": "text",
}

#: Reads the text of ``@PATH``, or of standard input for ``-``. Raises ``BadInputError``.
Read = Callable[[str], str]


def parse_arguments(words: Sequence[str], schema: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """Return the arguments of a call.

    Args:
        words: ``key=value`` (read as the schema's type), ``key:=json``, ``key=@PATH``, ``key=-``. The same
            key again adds to a list.
        schema: the tool's ``inputSchema``.
        read: reads what ``@PATH`` and ``-`` stand for.

    Raises:
        BadInputError: with what is wrong with each word.
    """
    arguments: dict[str, Any] = {}
    problems: list[str] = []
    for word in words:
        try:
            key, value = _parse(word, schema, read)
            if key in arguments:
                value = _added(key, arguments[key], value)
            arguments[key] = value
        except BadInputError as error:
            problems += error.problems
    if problems:
        raise BadInputError(problems)
    return arguments


def format_argument(key: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Return the word that ``parse_arguments`` reads as this value, quoted for a shell."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text != "-" and not text.startswith("@"):
        try:
            if _same(_typed(text, _property(schema, key), schema), value):
                return f"{shlex.quote(key)}={shell_quote(text)}"
        except ValueError:
            pass
    return f"{shlex.quote(key)}:={shell_quote(json.dumps(value, ensure_ascii=False))}"


def shell_quote(text: str) -> str:
    """Quote for a POSIX shell, the way a person would where that is possible."""
    if "'" in text and not set(text) & set('"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text)


def types_of(schema: Any, root: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the JSON types that a schema allows, as far as it says; None where it allows any.

    Args:
        schema: of one value.
        root: the whole schema, for references.
    """
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, Mapping):
            return None
        target = schema.get("$ref")
        if not isinstance(target, str) or not target.startswith("#/"):
            return _types_here(schema, root)
        schema = _follow(root, target)
    return None


def _types_here(schema: Mapping[str, Any], root: Mapping[str, Any]) -> frozenset[str] | None:
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(str(name) for name in kind)
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(choices, list):
        return frozenset(_type_name(choice) for choice in choices)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list):
            parts = [types_of(part, root) for part in schema[keyword]]
            return None if None in parts else frozenset().union(*(part for part in parts if part))
    return None


def _follow(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _parse(word: str, schema: Mapping[str, Any], read: Read) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    is_json = key.endswith(":")
    key = key.removesuffix(":")
    if not equals or not key:
        raise BadInputError(f'expected key=value, found "{word[:60]}"; put a value with spaces in quotes')
    if text == "-" or text.startswith("@"):
        text = read(text)
    if not is_json:
        try:
            return key, _typed(text, _property(schema, key), schema)
        except ValueError as error:
            raise BadInputError(f"{key}: {error}") from None
    try:
        return key, _json(text)
    except ValueError as error:
        raise BadInputError(f"{key}: expected JSON after :=, {error}") from None


def _property(schema: Mapping[str, Any], key: str) -> Any:
    properties = schema.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    # An argument that the schema does not know is told by the schema's own check, with a suggestion.
    return {} if found is None else found


def _typed(text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    """Read a value as the schema's type; where it allows several, as the most particular that fits."""
    types = types_of(schema, root)
    if types == frozenset({"string"}):
        return text
    found = _scalar(text, types) if types is None or types & _SCALARS else _NONE
    if found is not _NONE:
        return found
    if types is None or types & {"array", "object"}:
        found = _container(text, types)
        if found is not _NONE:
            return found
    if types is None or "string" in types:
        return text
    if "array" in types and isinstance(schema, Mapping):
        return [_typed(text, schema.get("items", {}), root)]
    expected = " or ".join(_NAMES.get(name, name) for name in sorted(types))
    raise ValueError(f'expected {expected}, found "{text[:60]}"')


_NONE: Any = object()


def _scalar(text: str, types: frozenset[str] | None) -> Any:
    def allows(name: str) -> bool:
        return types is None or name in types

    if text == "null" and allows("null"):
        return None
    if allows("boolean"):
        # Where a text is allowed too, yes and on are texts.
        words = {"true": True, "false": False} if allows("string") else _WORDS
        if text.lower() in words:
            return words[text.lower()]
    number = _NUMBER.fullmatch(text)
    if number is None or not (allows("number") or allows("integer")):
        return _NONE
    if number["fraction"] is None and number["exponent"] is None:
        # More digits are no number that anybody means, and Python refuses to convert them.
        return int(text) if len(text) < 400 else _NONE
    return float(text) if allows("number") else _NONE


def _container(text: str, types: frozenset[str] | None) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return _NONE
    try:
        found = _json(text)
    except ValueError as error:
        if types is None or "string" in types:
            return _NONE
        raise ValueError(f"expected JSON, {error}") from None
    return found if types is None or _type_name(found) in types else _NONE


def _json(text: str) -> Any:
    """Read JSON; every mistake is a ``ValueError`` that says where."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"found {constant}, which is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.lower()} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _added(key: str, before: Any, value: Any) -> Any:
    if not isinstance(before, list) or not isinstance(value, list):
        raise BadInputError(f"{key}: given twice; only a list may have several")
    return [*before, *value]


def _same(left: Any, right: Any) -> bool:
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in (
        (bool, "boolean"),
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (list, "array"),
    ):
        if isinstance(value, kind):
            return name
    return "object"
