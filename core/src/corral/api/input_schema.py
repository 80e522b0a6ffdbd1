"""Whether what a Tool calls a JSON Schema is one that can be used without surprises."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from corral.api.errors import Finding, Location

#: The only dialect that is understood.
DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Keywords whose value is data, not schema.
_DATA = frozenset({"const", "default", "enum", "examples"})


def schema_findings(schema: dict[str, Any], location: Location) -> list[Finding]:
    """Return what is wrong with a JSON Schema, references and patterns that cannot work included."""
    # jsonschema costs 30 ms to import, and who only runs a built-in tool by name need not pay it here.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    if schema.get("$schema", DIALECT) != DIALECT:
        return [Finding((*location, "$schema"), "only JSON Schema Draft 2020-12 is understood")]
    error = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if error is not None:
        return [Finding((*location, *error.absolute_path), f"no valid JSON Schema: {error.message[:200]}")]
    return [
        Finding((*location, *finding.location), finding.message)
        for place, part in _subschemas(schema)
        for finding in _part_findings(schema, part, place)
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


def _part_findings(schema: dict[str, Any], part: dict[str, Any], place: Location) -> Iterator[Finding]:
    reference = part.get("$ref")
    if isinstance(reference, str) and not _resolves(schema, reference):
        yield Finding(
            (*place, "$ref"), "only references inside of the schema are followed, and it has no such part"
        )
    patterns = part.get("patternProperties")
    for pattern in (part.get("pattern"), *(patterns if isinstance(patterns, Mapping) else ())):
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            yield Finding((*place, "pattern"), f"no regular expression: {error}")


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
