"""The parts of Kubernetes' own API that every resource has."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from corral.api.model import ApiModel, Bool, DnsSubdomain, Int, Pattern, Timestamp, text_up_to

_LABEL_VALUE = "([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_Uid = Annotated[str, Pattern("[-0-9A-Za-z_.:]+", "a UID", 128)]


class OwnerReference(ApiModel):
    """The object whose deletion deletes this one."""

    api_version: str = Field(description="API version of the owner.")
    kind: str = Field(description="Kind of the owner.")
    name: str = Field(description="Name of the owner.")
    uid: _Uid = Field(description="UID of the owner.")
    controller: Bool | None = Field(None, description="The owner manages this object.")
    block_owner_deletion: Bool | None = Field(
        None, description="The owner is kept until this object is gone."
    )


class ObjectMeta(ApiModel):
    """Kubernetes object metadata."""

    name: DnsSubdomain | None = Field(
        None, description="Name, unique among objects of its kind in the namespace."
    )
    generate_name: (
        Annotated[str, Pattern("[a-z0-9]([-a-z0-9.]*)?", "a name prefix such as fetch-", 247)] | None
    ) = Field(None, description="Prefix of a name that the API server completes. Used where name is absent.")
    namespace: Annotated[str, Pattern("[a-z0-9]([-a-z0-9]*[a-z0-9])?", "a namespace", 63)] | None = Field(
        None, description="The namespace: the tenant that the object belongs to."
    )
    labels: dict[str, Annotated[str, Pattern(_LABEL_VALUE, "a label value", 63, min_length=0)]] = Field(
        {}, description="Labels: to select by."
    )
    annotations: dict[str, Annotated[str, text_up_to(65536)]] = Field(
        {}, description="Annotations: to remember by."
    )
    uid: _Uid | None = Field(None, description="Set by the API server.")
    resource_version: str | None = Field(None, description="Set by the API server.")
    generation: Int | None = Field(
        None, description="Set by the API server; grows with each change of the spec."
    )
    creation_timestamp: Timestamp | None = Field(None, description="Set by the API server.")
    deletion_timestamp: Timestamp | None = Field(None, description="Set by the API server.")
    deletion_grace_period_seconds: Int | None = Field(None, description="Set by the API server.")
    finalizers: tuple[str, ...] = Field((), description="What must act before the object may go.")
    owner_references: tuple[OwnerReference, ...] = Field((), description="What this object goes away with.")
    managed_fields: tuple[dict[str, Any], ...] = Field((), description="Set by the API server.")
    self_link: str | None = Field(None, description="Set by old API servers.")


class ConditionStatus(StrEnum):
    """The three truth values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """A Kubernetes condition (metav1.Condition)."""

    type: Annotated[
        str, Pattern("[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", "a type such as Finished", 316)
    ] = Field(description="What the condition is about.")
    status: ConditionStatus = Field(description="Whether it holds.")
    reason: Annotated[
        str, Pattern("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", "a reason such as Completed", 1024)
    ] = Field(description="The documented cause of the last change, one word.")
    message: Annotated[str, Pattern("(?s:.*)", "a message", 32768, min_length=0)] = Field(
        description="One sentence for people."
    )
    last_transition_time: Timestamp = Field(description="When the status last changed.")
    observed_generation: Annotated[Int, Field(ge=0)] | None = Field(
        None, description="The generation of the spec that it speaks of."
    )
