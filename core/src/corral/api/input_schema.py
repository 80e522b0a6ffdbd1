"""Whether what a Tool calls a JSON Schema is one that can be used without surprises."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from corral.api.errors import Finding, Location

#: The only dialect that is understood.
DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: What checking a schema may cost: these take a quarter of a second, and any tenant of a cluster may write one.
MAX_SCHEMA_BYTES = 96 << 10
#: A regular expression of this length takes some ten milliseconds to compile.
MAX_PATTERN_CHARS = 1000

#: Keywords whose value is data, not schema.
_DATA = frozenset({"const", "default", "enum", "examples"})


def schema_findings(schema: dict[str, Any], location: Location) -> list[Finding]:
    """Return what is wrong with a JSON Schema, references and patterns that cannot work included.

    A schema that passes costs whoever checks arguments against it a limited time; see ``corral.catalogue``.
    """
    # jsonschema costs 30 ms to import, and who only runs a built-in tool by name need not pay it here.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    if schema.get("$schema", DIALECT) != DIALECT:
        return [Finding((*location, "$schema"), "only JSON Schema Draft 2020-12 is understood")]
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        return [Finding(location, f"the schema is larger than {MAX_SCHEMA_BYTES >> 10} KiB")]
    error = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if error is not None:
        return [Finding((*location, *error.absolute_path), f"no valid JSON Schema: {error.message[:200]}")]
    parts = list(_subschemas(schema))
    found = [finding for place, part in parts for finding in _part_findings(schema, part, place)]
    return [
        replace(finding, location=(*location, *finding.location))
        for finding in (*found, *_unevaluated_findings(parts))
    ]


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[Location, dict[str, Any]]]:
    pending: list[tuple[Any, Location]] = [(schema, ())]
    while pending:
        part, place = pending.pop()
        if isinstance(part, dict):
            yield place, part
            pending.extend((value, (*place, key)) for key, value in part.items() if key not in _DATA)
        elif isinstance(part, list):
            pending.extend((value, (*place, index)) for index, value in enumerate(part))


def _unevaluated_findings(parts: list[tuple[Location, dict[str, Any]]]) -> Iterator[Finding]:
    """Find unevaluatedProperties beside what would be asked again, without a limit, for every property."""
    costly = [
        key for key in ("patternProperties", "dependentSchemas") if any(key in part for _, part in parts)
    ]
    for place, part in parts:
        if costly and "unevaluatedProperties" in part:
            message = f"does not go with {' and '.join(costly)} in one schema"
            yield Finding((*place, "unevaluatedProperties"), message, remedy="use additionalProperties")


def _part_findings(schema: dict[str, Any], part: dict[str, Any], place: Location) -> Iterator[Finding]:
    if place and isinstance(part.get("$schema"), str):
        yield Finding((*place, "$schema"), "only the top of a schema says which dialect it is in")
    reference = part.get("$ref")
    if isinstance(reference, str) and not _resolves(schema, reference):
        yield Finding(
            (*place, "$ref"), "only references inside of the schema are followed, and it has no such part"
        )
    patterns = part.get("patternProperties")
    for pattern in (part.get("pattern"), *(patterns if isinstance(patterns, Mapping) else ())):
        message = _pattern_problem(pattern) if isinstance(pattern, str) else None
        if message is not None:
            yield Finding((*place, "pattern"), message)


def _pattern_problem(pattern: str) -> str | None:
    import regex  # as with jsonschema

    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a regular expression of more than {MAX_PATTERN_CHARS} characters"
    try:
        regex.compile(pattern)
    except regex.error as error:
        return f"no regular expression: {error}"
    except RecursionError:
        return "a regular expression with too many groups inside each other"
    return None


def _resolves(schema: dict[str, Any], reference: str) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    found: Any = schema
    for name in reference[2:].split("/"):
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return False
    return True
