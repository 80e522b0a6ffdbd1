"""What the generator of structural schemas converts, and what it refuses."""

from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from corral.api.model import ApiModel, JsonObject, JsonValue
from corral.api.structural import NotStructural, structural_schema


class Inner(ApiModel):
    count: int | None = Field(None, gt=0, lt=10, description="How many.")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Everything(ApiModel):
    """All that can be said."""

    inner: Inner | None = Field(None, description="A part.")
    inners: tuple[Inner, ...] = Field((), max_length=3, description="Parts.")
    by_name: dict[str, Inner] = Field({}, description="By name.")
    colour: Colour = Field(Colour.RED, description="Colour.")
    one: Literal["x"] = Field("x", description="One.")
    ratio: float = Field(0.5, gt=0, le=1, description="Ratio.")
    free: JsonValue = Field(None, description="Free.")
    more: JsonObject = Field({}, description="More.")


def test_M1_optional_nested_and_free_parts_become_a_structural_schema() -> None:
    inner = {
        "type": "object",
        "properties": {"count": {"description": "How many.", "type": "integer", "maximum": 9, "minimum": 1}},
    }
    assert structural_schema(Everything) == {
        "description": "All that can be said.",
        "type": "object",
        "properties": {
            "inner": {"description": "A part.", **inner},
            "inners": {"description": "Parts.", "type": "array", "maxItems": 3, "items": inner},
            "byName": {"description": "By name.", "type": "object", "additionalProperties": inner},
            "colour": {"description": "Colour.", "type": "string", "default": "red", "enum": ["red", "blue"]},
            "one": {"description": "One.", "type": "string", "default": "x", "enum": ["x"]},
            "ratio": {
                "description": "Ratio.",
                "type": "number",
                "default": 0.5,
                "exclusiveMinimum": True,
                "maximum": 1,
                "minimum": 0,
            },
            "free": {"description": "Free.", "x-kubernetes-preserve-unknown-fields": True},
            "more": {"description": "More.", "type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


class Immutable(ApiModel):
    model_config = ConfigDict(json_schema_extra={"x-corral-immutable-except": ["b"]})

    a: int = Field(1, description="A.")
    b: int = Field(1, description="B.")


def test_immutability_becomes_a_rule_for_each_field() -> None:
    assert structural_schema(Immutable)["x-kubernetes-validations"] == [
        {
            "rule": "has(self.a) == has(oldSelf.a) && (!has(self.a) || self.a == oldSelf.a)",
            "message": "a cannot be changed once the task is created",
            "fieldPath": ".a",
        }
    ]


class Union(ApiModel):
    value: int | str = Field(1, description="Either.")


class Deep(ApiModel):
    parts: tuple[Union, ...] = Field((), description="Parts.")


class Recursive(ApiModel):
    children: "tuple[Recursive, ...]" = Field((), description="Children.")


class Pairs(ApiModel):
    pair: tuple[int, str] = Field((1, ""), description="A pair.")


class Keys(ApiModel):
    keys: dict[Annotated[str, Field(pattern="^a")], int] = Field({}, description="Keys.")


class Unique(ApiModel):
    names: set[str] = Field(set(), description="Names.")


class Free(ApiModel):
    anything: dict[str, Any] = Field({}, description="Anything.")


class Untyped(ApiModel):
    anything: Any = Field(None, description="Anything.")


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class MixedEnum(ApiModel):
    value: Mixed = Field(Mixed.ONE, description="Mixed.")


class OpenModel(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int = 1


class Email(ApiModel):
    format: Annotated[str, Field(json_schema_extra={"format": "email"})] = Field(
        "", description="An address."
    )


class Both(ApiModel):
    n: Annotated[int, Field(ge=1, gt=0)] = Field(1, description="N.")


class Misplaced(ApiModel):
    names: Annotated[tuple[int, ...], AfterValidator(tuple), Field(max_length=3)] = Field(
        (), description="Names."
    )


class Forgotten(ApiModel):
    model_config = ConfigDict(json_schema_extra={"x-corral-immutable-except": ["gone"]})

    a: int = Field(1, description="A.")


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (Union, "Union.value", "is a union of integer and string"),
        (Deep, "Deep.parts[].value", "is a union of integer and string"),
        (Recursive, "Recursive.children[]", "recursion cannot be inlined"),
        (Pairs, "Pairs.pair", "prefixItems cannot be said"),
        (Keys, "Keys.keys", "patternProperties cannot be said"),
        (Unique, "Unique.names", "uniqueItems cannot be said"),
        (Free, "Free.anything", "additionalProperties cannot be said"),
        (Untyped, "Untyped.anything", "a free value needs x-kubernetes-preserve-unknown-fields"),
        (MixedEnum, "MixedEnum.value", "an enumeration needs values of one type"),
        (OpenModel, "OpenModel", "additionalProperties cannot be said"),
        (Email, "Email.format", "format cannot be said"),
        (Both, "Both.n", "has both minimum and exclusiveMinimum"),
        (Misplaced, "Misplaced.names", "maxLength on a value of type array"),
        (Forgotten, "Forgotten", "names gone, which is no field"),
    ],
)
def test_M1_what_no_crd_can_say_is_refused_with_the_models_path(
    model: type[BaseModel], path: str, message: str
) -> None:
    with pytest.raises(NotStructural) as caught:
        structural_schema(model)
    assert caught.value.path == path
    assert message in caught.value.message
