"""Durations as Go and Kubernetes write them: ``30s``, ``1m30s``, ``500ms``, ``2h``.

Source: Go's time.ParseDuration, without signs and without zero.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from corral.api.errors import QuantityError
from corral.api.model import expectation

_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),  # U+00B5, micro sign
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_UNIT = "ns|us|\u00b5s|\u03bcs|ms|s|m|h"
_COMPONENT = rf"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:{_UNIT})"
_NON_ZERO = rf"(?:0*[1-9][0-9]*(?:\.[0-9]*)?|0*\.[0-9]*[1-9][0-9]*)(?:{_UNIT})"
DURATION_PATTERN = f"(?:{_COMPONENT})*(?:{_NON_ZERO})(?:{_COMPONENT})*"
MAX_LENGTH = 32

_PART = re.compile(rf"([0-9.]+)({_UNIT})")
_WHOLE = re.compile(DURATION_PATTERN)
_EXPECTED = "a duration such as 30s, 1m30s or 500ms"


def parse_duration(duration: str) -> float:
    """Return the seconds of a duration such as ``1m30s``.

    Raises:
        QuantityError: it is none, or zero.
    """
    if len(duration) > MAX_LENGTH or _WHOLE.fullmatch(duration) is None:
        raise QuantityError(f"expected {_EXPECTED}")
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(duration)))


def format_duration(seconds: float) -> str:
    """Write seconds as a duration, exact to the nanosecond: 90.5 becomes ``1m30.5s``."""
    nanoseconds = round(seconds * 1e9)
    if 0 < nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("us", 10**3), ("ns", 1)):
            if nanoseconds >= size:
                return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    return f"{text}{_decimal(rest, 10**9)}s" if rest or not text else text


def _decimal(amount: int, size: int) -> str:
    return f"{Decimal(amount) / size:f}"


@dataclass(frozen=True, slots=True)
class DurationType:
    """Annotates a ``str`` field as a duration above zero."""

    #: The longest one accepted, as a duration itself.
    maximum: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        longest = parse_duration(self.maximum)

        def check(value: Any) -> Any:
            if not isinstance(value, str):
                quoted = (
                    f'write "{value}s"' if isinstance(value, int) and not isinstance(value, bool) else None
                )
                raise expectation(_EXPECTED, quoted)
            try:
                seconds = parse_duration(value)
            except QuantityError:
                raise expectation(_EXPECTED) from None
            if seconds > longest:
                raise expectation(f"at most {self.maximum}")
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        json_schema = handler(schema)
        json_schema["pattern"] = f"^({DURATION_PATTERN})$"
        json_schema["maxLength"] = MAX_LENGTH
        json_schema["x-kubernetes-validations"] = [
            {
                "rule": f"duration(self) <= duration('{self.maximum}')",
                "message": f"must be at most {self.maximum}",
            }
        ]
        return json_schema


#: A day bounds whatever one execution may take; longer work is several tasks.
Duration = Annotated[str, DurationType("24h")]
