"""Whether what a Tool calls a JSON Schema is one that can be used without surprises."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from corral.api.errors import Finding, Location

#: The only dialect that is understood.
DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Checking a schema of this size against its meta-schema takes about a tenth of a second, and in a cluster whoever
#: checks it serves everybody.
MAX_SCHEMA_BYTES = 32 << 10
#: A regular expression of this length takes some milliseconds to compile.
MAX_PATTERN_CHARS = 1000

#: Keywords whose value is data, not schema.
_DATA = frozenset({"const", "default", "enum", "examples"})
#: Keywords whose value has names of the schema's own, each with a schema.
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})


def schema_findings(schema: dict[str, Any], location: Location) -> list[Finding]:
    """Return what is wrong with a JSON Schema, references and patterns that cannot work included."""
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
    return [
        Finding((*location, *finding.location), finding.message)
        for place, part in _subschemas(schema)
        for finding in _part_findings(schema, part, place)
    ]


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[Location, dict[str, Any]]]:
    pending: list[tuple[Any, Location]] = [(schema, ())]
    while pending:
        part, place = pending.pop()
        if isinstance(part, list):
            pending.extend((value, (*place, index)) for index, value in enumerate(part))
        if not isinstance(part, dict):
            continue
        yield place, part
        for key, value in part.items():
            if key in _NAMED and isinstance(value, dict):
                pending.extend((named, (*place, key, name)) for name, named in value.items())
            elif key not in _DATA:
                pending.append((value, (*place, key)))


def _part_findings(schema: dict[str, Any], part: dict[str, Any], place: Location) -> Iterator[Finding]:
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
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a regular expression of more than {MAX_PATTERN_CHARS} characters"
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as error:
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
