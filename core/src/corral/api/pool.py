"""SandboxPool: sandboxes that wait for work."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from corral.api.metadata import Condition, ObjectMeta
from corral.api.model import ApiModel, DnsSubdomain, Int, Number, Pattern
from corral.api.network import NetworkMode
from corral.api.quantity import Quantity

_Count = Annotated[Int, Field(ge=0)]


class WhenEmpty(StrEnum):
    """What happens to a task that finds the pool empty."""

    QUEUE = "Queue"
    COLD = "Cold"
    REFUSE = "Refuse"


class WhenLarger(StrEnum):
    """What happens to a task whose limits are above those of the pool's sandboxes."""

    COLD = "Cold"
    RESIZE = "Resize"


class PoolResources(ApiModel):
    """What each waiting sandbox can give: the largest limits of a task that it serves as it is."""

    cpu: Annotated[str, Quantity("cpu", "64")] | None = Field(
        None, description="CPU cores: 2, 500m. Absent: what a task gets that asks for nothing."
    )
    memory: Annotated[str, Quantity("bytes", "64Gi")] | None = Field(
        None, description="Memory: 512Mi. Absent: what a task gets that asks for nothing."
    )
    disk: Annotated[str, Quantity("bytes", "64Gi")] | None = Field(
        None,
        description="Workspace, /tmp and /dev/shm together: 128Mi. Absent: what a task gets that asks "
        "for nothing.",
    )


class Refill(ApiModel):
    """How fast used sandboxes are replaced, so that a burst does not flood the scheduler."""

    per_second: Annotated[Number, Field(gt=0, le=1000)] = Field(
        5, description="New sandboxes a second, in the long run."
    )
    burst: Annotated[Int, Field(ge=1, le=1000)] = Field(10, description="How many at once at most.")


class SandboxPoolSpec(ApiModel):
    """How many sandboxes wait, and what they are like."""

    replicas: Annotated[Int, Field(ge=0, le=10000)] = Field(
        0, description="How many sandboxes wait, ready to be used."
    )
    image: Annotated[str, Pattern(r"[^\s\x00]+", "an image reference", 512)] | None = Field(
        None, description="Image of the sandboxes. Absent: the operator's own."
    )
    resources: PoolResources | None = Field(None, description="What each waiting sandbox can give.")
    runtime_class_name: DnsSubdomain | None = Field(None, description="RuntimeClass, such as gvisor.")
    network: NetworkMode = Field(
        NetworkMode.NONE, description="The network class whose tasks the pool serves."
    )
    refill: Refill | None = Field(None, description="How fast used sandboxes are replaced.")
    when_empty: WhenEmpty = Field(
        WhenEmpty.COLD,
        description="Queue: a task waits for the refill. Cold: it gets a sandbox of its own. "
        "Refuse: it ends at once with reason QuotaExceeded.",
    )
    when_larger: WhenLarger = Field(
        WhenLarger.COLD,
        description="Cold: a task whose limits are above the pool's gets a sandbox of its own. "
        "Resize: a waiting one is given more CPU and memory in place; a larger disk still needs its own.",
    )


class SandboxPoolStatus(ApiModel):
    """What the pool has."""

    replicas: _Count = Field(0, description="Sandboxes that wait, ready or not.")
    ready: _Count = Field(0, description="Sandboxes that are ready to be used.")
    claimed: _Count = Field(0, description="Sandboxes that run a task.")
    selector: str | None = Field(
        None, description="Label selector of the pool's pods, for the scale subresource."
    )
    observed_generation: _Count | None = Field(
        None, description="The generation of the spec that this speaks of."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class SandboxPool(ApiModel):
    """Sandboxes that wait for work, so that a task skips the start of a pod."""

    api_version: Literal["corral.dev/v1alpha1"] = Field(
        "corral.dev/v1alpha1", description="corral.dev/v1alpha1."
    )
    kind: Literal["SandboxPool"] = Field("SandboxPool", description="SandboxPool.")
    metadata: ObjectMeta = Field(description="Name, namespace, labels.")
    spec: SandboxPoolSpec = Field(description="How many, and what they are like.")
    status: SandboxPoolStatus | None = Field(None, description="What the pool has. Written by Corral alone.")

    def to_wire(self) -> dict[str, Any]:
        """Return the resource as JSON. The status is written out in full."""
        wire = {"apiVersion": self.api_version, "kind": self.kind, **super().to_wire()}
        if self.status is not None:
            wire["status"] = self.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return wire
