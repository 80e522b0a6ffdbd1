"""The CustomResourceDefinitions, made from the models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from corral.api.model import GROUP, VERSION
from corral.api.pool import SandboxPool
from corral.api.structural import NotStructural, Schema, structural_schema
from corral.api.task import AgentTask
from corral.api.tool import Tool

__all__ = ["RESOURCES", "CustomResource", "NotStructural", "custom_resource_definition", "openapi_schema"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    json_path: str
    type: str = "string"
    #: Shown by ``-o wide`` only.
    wide: bool = False

    def to_wire(self) -> dict[str, Any]:
        """Return the entry of additionalPrinterColumns."""
        priority = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.json_path, **priority}


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True)
class CustomResource:
    """What a CustomResourceDefinition says beside the schema."""

    model: type[BaseModel]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    subresources: Mapping[str, Any] = field(default_factory=dict)
    #: Fields that `kubectl get --field-selector` takes. Older API servers (before 1.31) leave them out.
    selectable: tuple[str, ...] = ()


RESOURCES: tuple[CustomResource, ...] = (
    CustomResource(
        AgentTask,
        "agenttasks",
        ("at",),
        (
            Column("Tool", ".spec.tool"),
            Column("Phase", ".status.phase"),
            Column("Reason", ".status.reason"),
            _AGE,
            Column("Message", ".status.message", wide=True),
        ),
        {"status": {}},
        selectable=(".status.phase", ".status.reason", ".spec.tool"),
    ),
    CustomResource(
        Tool,
        "tools",
        (),
        (
            Column("Category", ".spec.category"),
            Column("Version", ".spec.version"),
            Column("Dangerous", ".spec.dangerous", "boolean"),
            _AGE,
            Column("Description", ".spec.description", wide=True),
        ),
    ),
    CustomResource(
        SandboxPool,
        "sandboxpools",
        ("pool",),
        (
            Column("Replicas", ".spec.replicas", "integer"),
            Column("Ready", ".status.ready", "integer"),
            Column("Claimed", ".status.claimed", "integer"),
            _AGE,
            Column("Image", ".spec.image", wide=True),
        ),
        {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    ),
)


def openapi_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a whole resource, as in a CustomResourceDefinition."""
    # The API server itself checks these three, and allows no schema for metadata but bounds on the name.
    schema = structural_schema(model, opaque=("metadata",))
    for name in ("apiVersion", "kind"):
        schema["properties"][name] = {"type": "string"}
    schema["required"] = [name for name in schema["required"] if name != "metadata"]
    return schema


def custom_resource_definition(resource: CustomResource) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a resource.

    Raises:
        NotStructural: the model says something that it cannot hold.
    """
    kind = resource.model.__name__
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": resource.plural,
        "singular": kind.lower(),
        **({"shortNames": list(resource.short_names)} if resource.short_names else {}),
        "categories": ["all"] if resource.subresources else ["corral"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": openapi_schema(resource.model)},
        **({"subresources": dict(resource.subresources)} if resource.subresources else {}),
        **(
            {"selectableFields": [{"jsonPath": path} for path in resource.selectable]}
            if resource.selectable
            else {}
        ),
        "additionalPrinterColumns": [column.to_wire() for column in resource.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }
