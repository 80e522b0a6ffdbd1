"""What DuckDB's values are in JSON."""

from corral_tools import json_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal

    from duckdb import DuckDBPyRelation

    from corral_runner.interface import JSON

_ZONED = "TIMESTAMP WITH TIME ZONE"


def without_time_zones(relation: "DuckDBPyRelation", types: list[str]) -> "DuckDBPyRelation":
    """The same rows, with points in time as texts: as values, DuckDB needs the package pytz for them."""
    if not any(_ZONED in kind for kind in types):
        return relation
    columns = (
        f"CAST(#{number} AS {kind.replace(_ZONED, 'VARCHAR')})" if _ZONED in kind else f"#{number}"
        for number, kind in enumerate(types, start=1)
    )
    return relation.project(", ".join(columns))


def as_json(value: object) -> "JSON":
    """Numbers stay numbers where JSON's readers keep their value; the rest is a text as DuckDB prints it.

    Texts are: dates and times (ISO 8601), integers of more than 64 bits, decimals that no float equals,
    infinities and not-a-number, UUIDs, intervals. Binary data is in hexadecimal.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if _is_kept(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return _scalar(value)


def _is_kept(number: float) -> bool:
    if isinstance(number, int):
        return json_values.MIN_INTEGER <= number <= json_values.MAX_INTEGER
    return number - number == 0  # neither infinite nor not-a-number


def _scalar(value: object) -> "JSON":
    from datetime import date, time
    from decimal import Decimal

    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value)


def _decimal(value: "Decimal") -> "JSON":
    if value == value.to_integral_value():
        return as_json(int(value))
    nearest = float(value)
    return nearest if type(value)(repr(nearest)) == value else str(value)
