"""JSON to and from ``google.protobuf.Struct``. Pure."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

#: Beyond it a double, which is all that a Struct has, skips whole numbers.
_EXACT = 2**53
#: Readers of protobuf refuse a message of more than 100 levels (the default of C++, Java and Python); so many are left
#: for a value when it stands in an answer.
_LEVELS = 88
#: An object is a Struct in an entry of a map in a Value, a list a ListValue in a Value.
_OBJECT_LEVELS, _LIST_LEVELS = 3, 2


def json_object(struct: Struct) -> dict[str, Any]:
    """Return a Struct as JSON; a number that is whole is an integer, as far as a double is exact."""
    return {name: json_value(value) for name, value in struct.fields.items()}


def json_value(value: Value) -> Any:
    """Return a Value as JSON; one that was never set is null."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return json_object(value.struct_value)
        case "list_value":
            return [json_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def value_of(data: Any) -> Value | None:
    """Return JSON as a Value; None: a Value cannot carry it exactly."""
    return _value(data) if _fits(data, _LEVELS) else None


def struct_of(data: Mapping[str, Any]) -> Struct | None:
    """Return a JSON object as a Struct; None: a Struct cannot carry it exactly."""
    return _struct(data) if _fits(data, _LEVELS) else None


def _fits(data: Any, levels: int) -> bool:
    if levels < 0:
        return False
    if isinstance(data, Mapping):
        return all(_fits(item, levels - _OBJECT_LEVELS) for item in data.values())
    if isinstance(data, list | tuple):
        return all(_fits(item, levels - _LIST_LEVELS) for item in data)
    return not isinstance(data, int) or abs(data) <= _EXACT


def _struct(data: Mapping[str, Any]) -> Struct:
    return Struct(fields={name: _value(item) for name, item in data.items()})


def _value(data: Any) -> Value:
    if data is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(data, bool):
        return Value(bool_value=data)
    if isinstance(data, int | float):
        return Value(number_value=data)
    if isinstance(data, str):
        return Value(string_value=data)
    if isinstance(data, Mapping):
        return Value(struct_value=_struct(data))
    return Value(list_value=ListValue(values=[_value(item) for item in data]))
