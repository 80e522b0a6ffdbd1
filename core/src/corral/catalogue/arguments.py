"""Whether arguments fit a tool's input schema, and every place where they do not."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from corral.api import Location, Problem, Tool, did_you_mean, format_path, json_problem
from corral.api.errors import describe_found

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

#: A list of a million wrong numbers is one mistake; more problems than this help nobody.
MAX_PROBLEMS = 50
#: Compiled schemas that are kept; a namespace seldom has more tools.
_KEPT_SCHEMAS = 512

_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
    "pattern": "text that matches {}",
    "const": "{}",
}


def with_defaults(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the defaults of the schema's top-level properties filled in."""
    properties = tool.spec.input_schema.get("properties")
    if not isinstance(properties, dict):
        return dict(arguments)
    defaults = {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, dict) and "default" in schema and name not in arguments
    }
    return {**arguments, **defaults}


def validate_arguments(
    tool: Tool, arguments: Mapping[str, Any], *, prefix: Location = ("arguments",)
) -> list[Problem]:
    """Return what is wrong with the arguments of a call, after the schema's defaults are filled in.

    Args:
        tool: whose ``inputSchema`` is asked.
        arguments: the arguments, references already resolved.
        prefix: where the arguments stand, for the paths of the problems.

    A schema and arguments of somebody who means harm can take for ever, and all memory: see ``catalogue.checker``.
    """
    finding = json_problem(dict(arguments))
    if finding is not None:
        path = format_path((*prefix, *finding.location))
        return [Problem(path, finding.message, remedy=finding.remedy)]
    validator = _validator(json.dumps(tool.spec.input_schema))
    try:
        errors = list(islice(validator.iter_errors(with_defaults(tool, arguments)), MAX_PROBLEMS))
    except RecursionError:
        return [Problem(format_path(prefix), f"the input schema of {tool.name} refers to itself without end")]
    # Not all of what a reference can lead to is checked when a tool is made, and jsonschema takes what it finds there
    # for a schema.
    except Exception as error:  # noqa: BLE001
        return [Problem(format_path(prefix), f"the input schema of {tool.name} cannot be used: {error}")]
    problems = [problem for error in errors for problem in _problems(error, prefix)]
    return sorted(problems, key=lambda problem: problem.path)[:MAX_PROBLEMS]


@lru_cache(maxsize=_KEPT_SCHEMAS)
def _validator(schema: str) -> "Draft202012Validator":
    # jsonschema costs 30 ms to import; listing tools does not need it.
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry: the default one fetches remote $refs, and a schema comes from a tenant.
    return Draft202012Validator(json.loads(schema), registry=Registry())


def _problems(error: "ValidationError", prefix: Location) -> Iterator[Problem]:
    location = (*prefix, *error.absolute_path)
    keyword, value = error.validator, error.validator_value
    if keyword == "required":
        yield from _missing(error, location)
    elif keyword in ("additionalProperties", "unevaluatedProperties"):
        yield from _unknown(error, location)
    elif keyword in ("anyOf", "oneOf") and error.context:
        yield from _nearest(error, prefix)
    else:
        expected = _expected(str(keyword), value)
        found = describe_found(error.instance)
        yield Problem(format_path(location), f"expected {expected}, found {found}", expected, found)


def _nearest(error: "ValidationError", prefix: Location) -> Iterator[Problem]:
    """Tell of the alternative that was meant: the one that fits deepest; or of all, if none begins to fit."""
    context = error.context or []
    deepest = max(context, key=lambda branch: len(branch.absolute_path))
    kinds = [branch.validator_value for branch in context]
    if len(deepest.absolute_path) == len(error.absolute_path) and all(
        isinstance(kind, str) for kind in kinds
    ):
        expected = " or ".join(_expected(str(branch.validator), branch.validator_value) for branch in context)
        found = describe_found(error.instance)
        path = format_path((*prefix, *error.absolute_path))
        yield Problem(path, f"expected {expected}, found {found}", expected, found)
    else:
        yield from _problems(deepest, prefix)


def _missing(error: "ValidationError", location: Location) -> Iterator[Problem]:
    names = error.validator_value
    assert isinstance(names, list)  # or the schema would not be valid
    for name in names:
        # jsonschema reports each missing property as an error of its own, and says which only in its message.
        if error.message.startswith(repr(name)):
            yield Problem(format_path((*location, name)), "is missing", expected="a value")


def _unknown(error: "ValidationError", location: Location) -> Iterator[Problem]:
    schema = error.schema if isinstance(error.schema, dict) else {}
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    instance = error.instance
    assert isinstance(instance, dict)  # what these keywords speak of
    for name in instance:
        if name in known or any(re.search(pattern, name) for pattern in patterns):
            continue
        guess = did_you_mean(name, known)
        names = ", ".join(known) or "none"
        remedy = f'did you mean "{guess}"?' if guess else f"known are {names}"
        yield Problem(format_path((*location, name)), "unknown argument", remedy=remedy)


def _expected(keyword: str, value: Any) -> str:
    if keyword == "type":
        kinds = [value] if isinstance(value, str) else list(value)
        return " or ".join(_KINDS.get(kind, kind) for kind in kinds)
    if keyword == "enum":
        return f"one of {', '.join(json.dumps(choice) for choice in value)}"[:400]
    template = _BOUNDS.get(keyword)
    if template is None:
        return f"what the schema's {keyword} asks for"
    return template.format(json.dumps(value) if keyword == "const" else value)


_KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
