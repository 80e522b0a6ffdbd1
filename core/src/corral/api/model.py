"""The base of every model, and the string types that several of them share."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic import Strict as _Strict
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from corral.api.errors import Finding
from corral.api.json_values import encodes, json_problem

GROUP = "corral.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ApiModel(BaseModel):
    """camelCase on the wire, snake_case in Python, immutable, closed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        # Building all validators at import would cost every start of the CLI some 50 ms.
        defer_build=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object as in a manifest: camelCase, what is absent or default left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON object of a manifest or an API answer.

        Raises:
            pydantic.ValidationError: with the location of each problem; ``corral.api.problems_in`` reads it.
        """
        return cls.model_validate(data, by_alias=True, by_name=False)


def refuse(findings: Iterable[Finding]) -> None:
    """Raise all findings at once from inside a pydantic validator; without any, do nothing."""
    found = tuple(findings)
    if found:
        summary = "; ".join(finding.message for finding in found)
        raise PydanticCustomError("corral_findings", "{summary}", {"summary": summary, "findings": found})


def expectation(expected: str, remedy: str | None = None) -> PydanticCustomError:
    """Make the error for a value that is not what its type asks for."""
    return PydanticCustomError(
        "corral_expected", "expected {expected}", {"expected": expected, "remedy": remedy}
    )


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string type given by a regular expression that means the same to Python, RE2 and ECMA 262."""

    #: Without anchors.
    pattern: str
    #: What to say when a string does not match, such as "a DNS label such as fetch-page".
    expected: str
    max_length: int
    min_length: int = 1

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        compiled = re.compile(self.pattern)

        def check(value: str) -> str:
            if not self.min_length <= len(value) <= self.max_length or compiled.fullmatch(value) is None:
                raise expectation(self.expected)
            if not encodes(value):
                raise expectation("text without lone surrogates")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        json_schema = handler(schema)
        json_schema["pattern"] = f"^({self.pattern})$"
        json_schema["maxLength"] = self.max_length
        if self.min_length:
            json_schema["minLength"] = self.min_length
        return json_schema


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

#: RFC 1123 label, as Kubernetes asks of names that become part of others.
DnsLabel = Annotated[str, Pattern(_LABEL, "a DNS label such as fetch-page", 63)]
#: RFC 1123 subdomain, as Kubernetes asks of most object names.
DnsSubdomain = Annotated[str, Pattern(rf"{_LABEL}(\.{_LABEL})*", "a name such as fetch-page.v2", 253)]
#: How a task names a tool. Underscores are allowed because clients call tools so; they mean hyphens.
ToolName = Annotated[
    str, Pattern("[a-z0-9]([-_.a-z0-9]*[a-z0-9])?", "a tool's name such as read-file or read_file", 63)
]
EnvName = Annotated[
    str, Pattern("[A-Za-z_][A-Za-z0-9_]*", "an environment variable's name such as API_URL", 255)
]
_COMPONENT = r"(([^/\x00.]|\.[^/\x00.]|\.\.[^/\x00])[^/\x00]*|\.)"  # anything but .., without lookahead (RE2)
_BELOW = rf"{_COMPONENT}(/+{_COMPONENT})*/*"
_RELATIVE = "relative to the workspace (not absolute, no component .., no NUL)"
RelativePath = Annotated[str, Pattern(_BELOW, f"a path {_RELATIVE}", 1024)]
#: A file name pattern below the workspace, as ``pathlib`` reads it, with ``**`` for any depth.
GlobPattern = Annotated[str, Pattern(_BELOW, f"a glob pattern such as out/*.csv, {_RELATIVE}", 1024)]
#: Kubernetes MicroTime or Time, in UTC or with an offset.
Timestamp = Annotated[
    str,
    Pattern(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})",
        "an RFC 3339 time such as 2026-01-31T12:00:00Z",
        40,
    ),
]


def text_up_to(max_length: int, expected: str = "text without NUL characters") -> Pattern:
    """Make the type of a free text that becomes a C string somewhere, so holds no NUL."""
    return Pattern(r"[^\x00]*", f"{expected}, at most {max_length} characters", max_length, min_length=0)


#: As JSON has them: "5" is no number and 1 is not true, here as on the API server.
Int = Annotated[int, _Strict()]
Number = Annotated[float, _Strict()]
Bool = Annotated[bool, _Strict()]


def _check_not_empty(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        raise expectation("at least one entry")
    return items


#: Annotates a tuple that may not be empty; pydantic's ``min_length`` also complains when an entry is wrong.
#: Comes last, or the schema takes bounds after it for those of a string.
NOT_EMPTY = AfterValidator(_check_not_empty), Field(json_schema_extra={"minItems": 1})


def _check_json(value: Any) -> Any:
    problem = json_problem(value)
    if problem is not None:
        refuse([problem])
    return value


_FREE = {"x-kubernetes-preserve-unknown-fields": True}

#: A JSON value that a person wrote; checked.
JsonValue: TypeAlias = Annotated[Any, AfterValidator(_check_json), Field(json_schema_extra={**_FREE})]
#: A JSON object that a person wrote; checked.
JsonObject: TypeAlias = Annotated[
    dict[str, Any], AfterValidator(_check_json), Field(json_schema_extra={**_FREE})
]
#: A JSON value that a tool made; whoever runs the tool has checked it.
AnyJson: TypeAlias = Annotated[Any, Field(json_schema_extra={**_FREE})]
