"""From pydantic's JSON Schema to the structural schema that a CustomResourceDefinition takes.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#specifying-a-structural-schema, and k8s.io/apiextensions-apiserver/pkg/apiserver/schema. What cannot be said
there is refused here, with the path in the model, instead of being left out silently.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from corral.api.errors import CorralError

Schema = dict[str, Any]

#: Asks for rules that let no field of an object change, apart from those listed.
IMMUTABLE_EXCEPT = "x-corral-immutable-except"

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"

#: Taken over as they are. Anything else has a rule below or is refused.
_COPIED = frozenset(
    {
        "description",
        "type",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "required",
        _PRESERVE,
        _INT_OR_STRING,
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    }
)
#: For people or for Python; says nothing about what is valid.
_DROPPED = frozenset({"title", "examples", "$defs"})
_BESIDE_INT_OR_STRING = frozenset(
    {"description", "anyOf", "pattern", "maxLength", "minimum", "maximum", "x-kubernetes-validations"}
)
#: Pydantic writes a bound for the wrong type where annotations hide the right one from it.
_BELONGS = {
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "minItems": "array",
    "maxItems": "array",
    "minProperties": "object",
    "maxProperties": "object",
}
_FORMATS = frozenset({"date-time", "byte", "int32", "int64"})


class NotStructural(CorralError, TypeError):  # noqa: N818 - the Kubernetes term
    """A model says something that no CustomResourceDefinition can. ``path`` is where in the model."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}")


class _Generator(GenerateJsonSchema):
    """Pydantic's own, which must not warn about defaults: they are handled below."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - pydantic's own


def structural_schema(model: type[BaseModel], *, opaque: Sequence[str] = ()) -> Schema:
    """Return the structural schema of a model, all references inlined.

    Args:
        model: a model of the contract.
        opaque: properties of it whose content the API server checks itself, such as metadata.

    Raises:
        NotStructural: with the path in the model.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    for name in opaque:
        schema["properties"][name] = {"type": "object"}
    return _Conversion(schema.get("$defs", {})).node(schema, model.__name__, ())


class _Conversion:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def node(self, schema: Schema, path: str, open_refs: tuple[str, ...]) -> Schema:
        """Convert one node; ``open_refs`` are the definitions it stands inside of."""
        if schema.get(_INT_OR_STRING):
            return _int_or_string(schema, path)
        schema, open_refs = self._inline(schema, path, open_refs)
        schema = self._without_null(schema, path)
        if "$ref" in schema or "anyOf" in schema:
            return self.node(schema, path, open_refs)
        out: Schema = {}
        for keyword, value in schema.items():
            if keyword in _COPIED:
                out[keyword] = value
            elif keyword not in _DROPPED:
                out |= self._converted(keyword, value, schema, path, open_refs)
        if "type" not in out and not out.get(_PRESERVE):
            if not out.get("enum"):
                raise NotStructural(path, "has no type; a free value needs " + _PRESERVE)
            out["type"] = _type_of(out["enum"], path)
        if not isinstance(out.get("type", ""), str):
            raise NotStructural(path, f"has several types: {out['type']}")
        misplaced = [key for key, kind in _BELONGS.items() if key in out and out.get("type") != kind]
        if misplaced:
            raise NotStructural(path, f"{', '.join(misplaced)} on a value of type {out.get('type')}")
        _add_immutability(schema, out, path)
        return _ordered(out)

    def _inline(
        self, schema: Schema, path: str, open_refs: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        while "$ref" in schema:
            name = str(schema["$ref"]).rsplit("/", 1)[-1]
            if name in open_refs:
                raise NotStructural(path, f"refers to {name} inside of {name}; recursion cannot be inlined")
            open_refs = (*open_refs, name)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**self._definitions[name], **beside}
        return schema, open_refs

    def _without_null(self, schema: Schema, path: str) -> Schema:
        branches = schema.get("anyOf")
        if branches is None:
            return schema
        rest = [branch for branch in branches if branch != {"type": "null"}]
        if len(rest) != 1:
            kinds = " and ".join(str(branch.get("type", branch.get("$ref", "?"))) for branch in rest)
            raise NotStructural(path, f"is a union of {kinds}; give each its own field")
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**rest[0], **beside}

    def _converted(  # noqa: PLR0911 - a table: one keyword, one answer
        self, keyword: str, value: Any, schema: Schema, path: str, open_refs: tuple[str, ...]
    ) -> Schema:
        """Return what a keyword becomes that is not simply copied."""
        match keyword:
            case "properties":
                parts = {name: self.node(part, f"{path}.{name}", open_refs) for name, part in value.items()}
                return {keyword: parts}
            case "items":
                return {keyword: self.node(value, f"{path}[]", open_refs)}
            case "additionalProperties" if isinstance(value, dict) and "properties" not in schema:
                return {keyword: self.node(value, f"{path}{{}}", open_refs)}
            case "additionalProperties" if value is False and "properties" in schema:
                return {}  # Kubernetes' own default: unknown fields are pruned, or refused if asked
            case "additionalProperties" if value is True and schema.get(_PRESERVE):
                return {}
            case "const":
                return {"enum": [value]}
            case "default":
                # Only plain values: an empty list as default would appear in every object and mean nothing.
                return {keyword: value} if isinstance(value, str | int | float) else {}
            case "exclusiveMinimum" | "exclusiveMaximum":
                return _exclusive(keyword, value, schema, path)
            case "format" if value in _FORMATS:
                return {keyword: value}
            case key if key == IMMUTABLE_EXCEPT:
                return {}
        raise NotStructural(path, f"{keyword} cannot be said in a CustomResourceDefinition")


def _int_or_string(schema: Schema, path: str) -> Schema:
    allowed = _BESIDE_INT_OR_STRING
    extra = set(schema) - allowed - {_INT_OR_STRING, "title", "default"}
    if extra:
        raise NotStructural(path, f"{', '.join(sorted(extra))} cannot stand beside {_INT_OR_STRING}")
    # The API server takes exactly this anyOf, in this order.
    out = {key: schema[key] for key in schema if key in allowed and key != "anyOf"}
    return _ordered({**out, "anyOf": [{"type": "integer"}, {"type": "string"}], _INT_OR_STRING: True})


def _ordered(schema: Schema) -> Schema:
    """Put what people read first, first; the order must not depend on pydantic's version."""
    first, last = ("description", "type", "default", "enum"), ("required", "properties", "items")
    middle = sorted(set(schema) - {*first, *last})
    return {key: schema[key] for key in (*first, *middle, *last) if key in schema}


def _exclusive(keyword: str, value: float, schema: Schema, path: str) -> Schema:
    """In OpenAPI 3.0, ``exclusiveMinimum`` is a boolean beside ``minimum``."""
    side = keyword.removeprefix("exclusive").lower()
    if side in schema:
        raise NotStructural(path, f"has both {side} and {keyword}")
    if schema.get("type") == "integer":
        return {side: int(value) + (1 if side == "minimum" else -1)}
    return {side: value, keyword: True}


def _type_of(values: Sequence[Any], path: str) -> str:
    kinds = {type(value) for value in values}
    names = {str: "string", int: "integer", bool: "boolean"}
    if len(kinds) != 1 or next(iter(kinds)) not in names:
        raise NotStructural(path, "an enumeration needs values of one type")
    return names[kinds.pop()]


def _add_immutability(schema: Schema, out: Schema, path: str) -> None:
    exceptions = schema.get(IMMUTABLE_EXCEPT)
    if exceptions is None:
        return
    unknown = set(exceptions) - set(out["properties"])
    if unknown:
        raise NotStructural(path, f"{IMMUTABLE_EXCEPT} names {', '.join(sorted(unknown))}, which is no field")
    rules = [
        {
            # Both absent, or both there and equal.
            "rule": f"has(self.{name}) == has(oldSelf.{name})"
            f" && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            "message": f"{name} cannot be changed once the task is created",
            "fieldPath": f".{name}",
        }
        for name in out["properties"]
        if name not in exceptions
    ]
    out["x-kubernetes-validations"] = [*out.get("x-kubernetes-validations", []), *rules]
