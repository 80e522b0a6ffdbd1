"""From pydantic's validation errors to problems that read well and name their line."""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from corral.api.errors import Finding, Location, Problem, describe_found, format_path

#: Returns line and column, from 1, of a location; with True, of its key.
Locate = Callable[[Location, bool], tuple[int, int]]

#: What a type of pydantic's own errors means to somebody who writes a manifest.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "enum": "one of {expected}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "string_type": "a string",
    "string_unicode": "text without lone surrogates",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
}


#: Names that one is compared with, to suggest one.
_MOST_COMPARED = 200


def did_you_mean(name: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like this one, if any is like it at all.

    Of very many only some are compared, those that begin alike: a comparison takes tens of microseconds, and whoever
    writes a wrong name has others wait for it.
    """
    compared = known
    if len(known) > _MOST_COMPARED:
        compared = [other for other in known if other[:1] == name[:1]][:_MOST_COMPARED]
    close = difflib.get_close_matches(name[:64], compared, n=1, cutoff=0.6)
    if close:
        return close[0]
    folded = {other.lower().replace("_", "").replace("-", ""): other for other in known}
    return folded.get(name.lower().replace("_", "").replace("-", ""))


def problems_in(
    error: ValidationError,
    model: type[BaseModel],
    *,
    source: str | None = None,
    locate: Locate | None = None,
    prefix: Location = (),
) -> tuple[Problem, ...]:
    """Return all that pydantic found, as problems, in the order of the document.

    Args:
        error: raised while validating by alias.
        model: what was validated; tells which fields are known.
        source: the file, if any.
        locate: where in the file a location stands.
        prefix: the location of the validated value in the document.
    """
    problems = [
        place_problem(problem, location, source, locate, at_key=details["type"] == "extra_forbidden")
        for details in error.errors(include_url=False)
        for location, problem in _read(details, model, prefix)
    ]
    problems.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
    return tuple(problems)


def place_problem(
    problem: Problem, location: Location, source: str | None, locate: Locate | None, *, at_key: bool = False
) -> Problem:
    """Return the problem with its path, and its line and column where they are known."""
    line, column = (None, None) if locate is None else locate(location, at_key)
    return replace(problem, path=format_path(location), source=source, line=line, column=column)


def _read(
    details: ErrorDetails, model: type[BaseModel], prefix: Location
) -> Iterator[tuple[Location, Problem]]:
    location, context = (*prefix, *details["loc"]), details.get("ctx", {})
    if details["type"] != "corral_findings":
        yield location, _problem(details, context, model)
        return
    findings: Sequence[Finding] = context["findings"]
    for finding in findings:
        problem = Problem("", finding.message, finding.expected, remedy=finding.remedy)
        yield (*location, *finding.location), problem


def _problem(details: ErrorDetails, context: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    kind = details["type"]
    if kind == "missing":
        return Problem("", "is missing", expected="a value")
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        known = _fields_at(model, details["loc"][:-1])
        guess = did_you_mean(name, known)
        hint = (
            f'did you mean "{guess}"?'
            if guess
            else f"known are {', '.join(sorted(known))}"
            if known
            else None
        )
        return Problem("", "unknown field", remedy=hint)
    found = describe_found(details["input"])
    if kind == "corral_expected":
        expected = str(context["expected"])
        return Problem("", f"expected {expected}, found {found}", expected, found, context.get("remedy"))
    template = _EXPECTED.get(kind)
    if template is None:
        return Problem("", f"{details['msg']}, found {found}", None, found)
    expected = template.format_map(context)
    remedy = None
    if kind == "string_type" and isinstance(details["input"], int | float):
        remedy = "put it in quotes"
    elif kind.startswith(("string_too", "too_")):
        found = f"{context.get('actual_length', len(details['input']))}"
    return Problem("", f"expected {expected}, found {found}", expected, found, remedy)


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the wire names of the fields that the object at a location may have."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if current is None:
            return []
        field = next((field for field in current.model_fields.values() if field.alias == part), None)
        current = None if field is None else _model_in(field.annotation)
    return [] if current is None else [str(field.alias) for field in current.model_fields.values()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
