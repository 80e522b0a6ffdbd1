"""Kubernetes quantities: bytes such as ``256Mi`` and cores such as ``500m``.

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go. Two narrowings catch mistakes that Kubernetes itself
lets through: no negative or zero quantity, and no ``m`` for bytes (``512m`` is half a byte).
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from corral.api.errors import QuantityError
from corral.api.model import expectation

_NUMBER = r"0*[1-9][0-9]*(\.[0-9]*)?|0*\.[0-9]*[1-9][0-9]*"
BYTES_PATTERN = rf"({_NUMBER})([kMGTPE]|[KMGTPE]i|[eE][0-9]{{1,2}})?"
CPU_PATTERN = rf"({_NUMBER})m?"
#: Longer ones are no use, and a bound keeps the arithmetic small.
MAX_LENGTH = 20

_BYTES = re.compile(rf"(?P<number>{_NUMBER})(?P<suffix>[kMGTPE]|[KMGTPE]i|[eE][0-9]{{1,2}})?")
_CPU = re.compile(rf"(?P<number>{_NUMBER})(?P<suffix>m)?")
_FACTORS = {
    "k": 10**3,
    **{letter: 10 ** (3 * power) for power, letter in enumerate("MGTPE", start=2)},
    **{f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)},
}


def parse_bytes(quantity: str | int) -> int:
    """Return the bytes that a quantity such as ``256Mi``, ``1.5G``, ``1e6`` or ``4096`` means, rounded up.

    Raises:
        QuantityError: it is none.
    """
    text = str(quantity)
    match = _BYTES.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        hint = ", not m, which means thousandths" if re.fullmatch(r"[0-9.]+m", text) else ""
        raise QuantityError(f"expected a quantity such as 256Mi{hint}")
    suffix = match["suffix"] or ""
    factor: int = 10 ** int(suffix[1:]) if suffix[1:].isdigit() else _FACTORS.get(suffix, 1)
    return math.ceil(Decimal(match["number"]) * factor)


def parse_cpu(quantity: str | int) -> float:
    """Return the cores that a quantity such as ``500m``, ``1.5`` or ``2`` means.

    Raises:
        QuantityError: it is none.
    """
    text = str(quantity)
    match = _CPU.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise QuantityError('expected cores such as 2, "1.5" or 500m')
    return float(Decimal(match["number"]) / (1000 if match["suffix"] else 1))


def format_bytes(size_bytes: int) -> str:
    """Write bytes as the shortest exact quantity: 268435456 becomes ``256Mi``."""
    for power, letter in reversed(list(enumerate("KMGTPE", start=1))):
        if size_bytes and size_bytes % 2 ** (10 * power) == 0:
            return f"{size_bytes >> (10 * power)}{letter}i"
    return str(size_bytes)


def format_cpu(cores: float) -> str:
    """Write cores as Kubernetes does: 0.5 becomes ``500m``, 2.0 becomes ``2``."""
    thousandths = math.ceil(round(cores * 1000, 6))
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotates a ``str`` field as a quantity. Whole numbers are taken too, as Kubernetes does."""

    kind: Literal["bytes", "cpu"]
    #: The largest one accepted, as a quantity itself.
    maximum: str | None = None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        parse = parse_bytes if self.kind == "bytes" else parse_cpu
        largest = None if self.maximum is None else parse(self.maximum)

        def check(value: Any) -> str:
            if not isinstance(value, str | int) or isinstance(value, bool):
                example = "256Mi" if self.kind == "bytes" else "500m"
                quotes = "put it in quotes" if isinstance(value, float) else None
                raise expectation(f"a quantity such as {example}", quotes)
            if isinstance(value, int) and value.bit_length() > 64:
                raise expectation("a quantity of at most 64 bits")
            try:
                amount = parse(value)
            except QuantityError as error:
                raise expectation(str(error).removeprefix("expected ")) from None
            if largest is not None and amount > largest:
                raise expectation(f"at most {self.maximum}")
            return str(value)

        return core_schema.no_info_plain_validator_function(
            check, json_schema_input_schema=core_schema.str_schema()
        )

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema: JsonSchemaValue = {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "maxLength": MAX_LENGTH,
            "pattern": f"^({BYTES_PATTERN if self.kind == 'bytes' else CPU_PATTERN})$",
        }
        if self.maximum is not None:
            schema["maximum"] = int(
                parse_bytes(self.maximum) if self.kind == "bytes" else parse_cpu(self.maximum)
            )
            # string() because a whole number is allowed too; the library is there from Kubernetes 1.29 on.
            schema["x-kubernetes-validations"] = [
                {
                    "rule": f"quantity(string(self)).compareTo(quantity('{self.maximum}')) <= 0",
                    "message": f"must be at most {self.maximum}",
                }
            ]
        return schema


MemoryQuantity = Annotated[str, Quantity("bytes")]
CpuQuantity = Annotated[str, Quantity("cpu")]
