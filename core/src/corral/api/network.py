"""What a task may reach."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from corral.api.errors import Finding
from corral.api.model import ApiModel, Int, Pattern, refuse

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
#: The last label starts with a letter, so no IP address passes for a domain.
Domain = Annotated[
    str,
    Pattern(
        rf"(\*\.)?({_LABEL}\.)+[a-z]([-a-z0-9]{{0,61}}[a-z0-9])?",
        "a domain such as api.example.com or *.example.com, in lower case",
        253,
    ),
]


class NetworkMode(StrEnum):
    """How much network a task has."""

    NONE = "none"
    ALLOWLIST = "allowlist"


class Network(ApiModel):
    """What a task may reach: nothing, or the domains it names."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.mode) || self.mode != 'allowlist' || "
                    "(has(self.allowedDomains) && size(self.allowedDomains) > 0)",
                    "message": "mode allowlist needs allowedDomains",
                },
                {
                    "rule": "(has(self.mode) && self.mode == 'allowlist') || "
                    "(!has(self.allowedDomains) || size(self.allowedDomains) == 0) && !has(self.maxRequests)",
                    "message": "allowedDomains and maxRequests need mode allowlist",
                },
            ]
        }
    )

    mode: NetworkMode = Field(
        NetworkMode.NONE,
        description="none: no socket can be made at all. allowlist: allowedDomains, by the egress proxy.",
    )
    allowed_domains: Annotated[tuple[Domain, ...], Field(max_length=64)] = Field(
        (), description="Domains that may be reached; *.example.com stands for every name below example.com."
    )
    max_requests: Annotated[Int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="How many requests the task may make in all. Absent: as many as its time allows."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode is NetworkMode.ALLOWLIST:
            if not self.allowed_domains:
                refuse([Finding(("allowedDomains",), "mode allowlist needs at least one domain")])
        else:
            without = "needs mode: allowlist"
            refuse(
                Finding((name,), without)
                for name, given in (
                    ("allowedDomains", bool(self.allowed_domains)),
                    ("maxRequests", self.max_requests is not None),
                )
                if given
            )
        return self
