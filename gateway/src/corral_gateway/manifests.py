"""Manifests in OpenAPI: the models of the library, as what requests bring and answers hold."""

from typing import Annotated, Any

from pydantic import BaseModel, WithJsonSchema
from pydantic.json_schema import models_json_schema

from corral.api import AgentTask, Tool

#: Where OpenAPI keeps what it names.
TEMPLATE = "#/components/schemas/{model}"


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """Return what stands in an OpenAPI document for one of them."""
    return {"$ref": TEMPLATE.format(model=model.__name__)}


#: A task as it is on the wire. It is whole when it is sent: nothing is checked again.
TaskManifest = Annotated[dict[str, Any], WithJsonSchema(reference(AgentTask))]
#: A tool as it is on the wire.
ToolManifest = Annotated[dict[str, Any], WithJsonSchema(reference(Tool))]

#: An answer to somebody who waited.
ENDED_TASK: dict[str, Any] = {
    "apiVersion": "corral.dev/v1alpha1",
    "kind": "AgentTask",
    "metadata": {
        "name": "calculator-f16da0eb",
        "labels": {"corral.dev/caller": "agents"},
        "uid": "c15d3231-20d2-452e-9d0a-e34f1a27c219",
        "creationTimestamp": "2026-01-31T12:00:00.299137Z",
    },
    "spec": {"tool": "calculator", "arguments": {"expression": "6*7"}},
    "status": {
        "phase": "Succeeded",
        "reason": "Completed",
        "attempt": 1,
        "sandbox": {
            "backend": "embedded",
            "node": "laptop",
            "warm": True,
            "isolation": ["userns", "seccomp"],
        },
        "executions": [
            {
                "name": "main",
                "tool": "calculator",
                "attempt": 1,
                "phase": "Succeeded",
                "reason": "Completed",
                "exitCode": 0,
                "output": {"stdout": "", "stderr": "", "truncated": False},
                "result": 42,
                "usage": {"cpuSeconds": 0.0048, "peakMemoryBytes": 8626176, "wallSeconds": 0.0094},
            }
        ],
        "startTime": "2026-01-31T12:00:00.372695Z",
        "completionTime": "2026-01-31T12:00:00.391666Z",
    },
}


def declare_manifests(schema: dict[str, Any]) -> None:
    """Add the manifests to the components of an OpenAPI document."""
    _, found = models_json_schema(
        [(AgentTask, "validation"), (Tool, "validation")], by_alias=True, ref_template=TEMPLATE
    )
    schema.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
