"""Take a JSON document apart with a JMESPath expression (https://jmespath.org/specification.html)."""

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import bounds, files, json_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: A parsed document takes about ten times its text in memory.
MAX_DOCUMENT_BYTES = 16 << 20


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The value the expression finds, with its JMESPath type; a list that is too long is cut."""
    document = _document(arguments, context)
    value = _search(arguments["query"], document)
    result, truncated = _bounded(value, bounds.budget_bytes(context))
    return {
        "value": json_values.from_python(result, bounds.RESULT_BYTES * 2),
        "type": _type(value),
        "truncated": truncated,
    }


def _document(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    text: str | None = arguments.get("json")
    path: str | None = arguments.get("path")
    if (text is None) == (path is None):
        raise InvalidArgument("json", "give either 'json' (the document's text) or 'path' (a workspace file)")
    if path is not None:
        text = files.read_text(path, context, limit_bytes=MAX_DOCUMENT_BYTES)
    assert text is not None
    if not arguments.get("json_lines", False):
        return _parse(text, path)
    return [
        _parse(line, path, number)
        for number, line in enumerate(text.split("\n"), start=1)
        if line and not line.isspace()
    ]


def _parse(text: str, path: str | None, line: int | None = None) -> "JSON":
    import json

    try:
        value: JSON = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        place = "" if line is None else f"line {line}: "
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        if path is not None:
            raise ToolFailure(f"{path!r} is not JSON: {place}{reason}", path=path) from error
        raise InvalidArgument("json", f"is not JSON: {place}{reason}") from error
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number (RFC 8259, section 6)")


def _search(query: str, document: "JSON") -> "JSON":
    import jmespath
    from jmespath.exceptions import JMESPathError, ParseError

    try:
        expression = jmespath.compile(query)
    except (JMESPathError, RecursionError) as error:
        # The library's message ends with the expression and a caret on lines of their own.
        message = "it is nested too deep" if isinstance(error, RecursionError) else str(error).split("\n")[0]
        place = f" (at character {error.lex_position + 1})" if isinstance(error, ParseError) else ""
        raise InvalidArgument("query", f"is no JMESPath expression: {message.rstrip(':')}{place}") from error
    try:
        value: JSON = expression.search(document)
    # The library's functions meet values they were not written for: sort_by over mixed types is a TypeError.
    except (JMESPathError, ValueError, TypeError, LookupError, RecursionError, ArithmeticError) as error:
        raise ToolFailure(f"the query fails on this document: {error}") from error
    return value


def _bounded(value: "JSON", limit_bytes: int) -> "tuple[JSON, bool]":
    import json

    try:
        size_bytes = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:  # &name, to_number() of "nan"
        raise ToolFailure("the query finds something that is not a JSON value") from error
    if size_bytes <= limit_bytes:
        return value, False
    if not isinstance(value, list):
        raise ToolFailure(
            f"the result is larger than {limit_bytes} bytes; ask for less of it, with keys(@) for an overview"
        )
    kept: list[JSON] = []
    for item in value:
        limit_bytes -= len(json.dumps(item)) + 2
        if limit_bytes < 0:
            break
        kept.append(item)
    return kept, True


def _type(value: "JSON") -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
