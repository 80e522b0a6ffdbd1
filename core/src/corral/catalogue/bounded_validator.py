"""JSON Schema validation whose time is bounded, for schemas and values of people nobody knows.

A schema of a few lines can keep a validator busy for ever: a regular expression that backtracks, references that
double at every level, a list whose entries are compared each with each. So every keyword looks at the clock, and
what jsonschema does in one go without looking is done here.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_Keyword = Callable[[Any, Any, Any, Any], Any]

#: Compiled expressions that are kept, of all schemas.
_KEPT_PATTERNS = 2048

#: When the validation under way must be over, by the clock of the thread; without a limit, never.
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class OutOfTimeError(Exception):
    """The validation was given up."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let a bounded validator, used inside, raise OutOfTimeError after so many seconds of this thread's CPU."""
    token = _deadline.set(time.thread_time() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def bounded_validator(schema: dict[str, Any]) -> "Validator":
    """Make a validator that keeps to ``time_limit``."""
    # Where a schema names its dialect, jsonschema takes the dialect's own validator, which has no limit; only the top
    # of a schema that was checked may name one. An empty registry: the default one fetches remote $refs.
    anonymous = {key: value for key, value in schema.items() if key != "$schema"}
    validator: Validator = _BoundedValidator(anonymous, registry=Registry())
    return validator


def unnamed_properties(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Return the properties that neither ``properties`` nor ``patternProperties`` of a schema speak of."""
    named = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name in instance:
        if name not in named and not any(_found(pattern, name) for pattern in patterns):
            yield name


def _seconds_left() -> float:
    left = _deadline.get() - time.thread_time()
    if left <= 0:
        raise OutOfTimeError
    return left


def _found(pattern: str, text: str) -> bool:
    left = _seconds_left()
    try:
        return bool(_compiled(pattern).search(text, timeout=None if left == float("inf") else left))
    except TimeoutError:
        raise OutOfTimeError from None


@lru_cache(maxsize=_KEPT_PATTERNS)
def _compiled(pattern: str) -> "regex.Pattern[str]":
    return regex.compile(pattern)


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            if _found(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    names = list(unnamed_properties(instance, schema))
    if validator.is_type(allowed, "object"):
        for name in names:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and names:
        yield ValidationError(f"additional properties: {', '.join(names)}")


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not unique or not validator.is_type(instance, "array"):
        return
    seen = set()
    for item in instance:
        _seconds_left()
        text = json.dumps(_comparable(item), sort_keys=True)
        if text in seen:
            yield ValidationError(f"{text[:100]} is there twice")
            return
        seen.add(text)


def _comparable(value: Any) -> Any:
    """Return a value whose JSON is the same text for every value that JSON Schema calls equal."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    return value


def _clocked(keyword: _Keyword) -> _Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _seconds_left()
        return keyword(validator, value, instance, schema)

    return check


_BoundedValidator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        name: _clocked(keyword)
        for name, keyword in {
            **Draft202012Validator.VALIDATORS,
            "additionalProperties": _additional_properties,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "uniqueItems": _unique_items,
        }.items()
    },
)
