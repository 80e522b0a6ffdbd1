"""Between a Tool as the API server has it and as callers register and list it. Pure.

A tool that came through the gateway has the label ``corral.dev/caller``, which the chart's admission policy lets nobody
else write. Where that policy is off, whoever may change a tool may put the label on it: that gives the gateway's
callers a right over that one tool, and nobody a right that they lack.
"""

from collections.abc import Mapping
from typing import Any

from corral.api import Tool
from corral.catalogue import normalise
from corral.cluster.names import CALLER_LABEL
from corral.cluster.port import Json
from corral_gateway.tasks.stamps import (
    OWN_ANNOTATIONS,
    OWN_LABELS,
    TOOL_NAME_ANNOTATION,
    caller_stamps,
    without,
)

_MANAGED_BY = "app.kubernetes.io/managed-by"
#: What of an object's metadata a replacement takes over: who acts before it goes, and what it goes away with.
_KEPT = ("uid", "resourceVersion", "finalizers", "ownerReferences")


def new_body(tool: Tool, namespace: str, caller: str) -> Json:
    """Return what is created for a tool that a caller registers."""
    labels, annotations = caller_stamps(caller)
    return _body(tool, namespace, {**tool.metadata.labels, **labels}, annotations)


def replacing_body(tool: Tool, there: Json, caller: str) -> Json:
    """Return what is written in place of a tool that is there.

    One that somebody else made stays theirs, with the labels and annotations by which they know it.
    """
    metadata = there["metadata"]
    if registered_by(there) is not None:
        body = new_body(tool, metadata["namespace"], caller)
    else:
        labels = {**(metadata.get("labels") or {}), **tool.metadata.labels}
        body = _body(tool, metadata["namespace"], labels, metadata.get("annotations") or {})
    body["metadata"] |= {"name": metadata["name"]}
    body["metadata"] |= {field: metadata[field] for field in _KEPT if field in metadata}
    return body


def registered_by(body: Json) -> str | None:
    """Return the label of who registered a tool, or replaced it last; None: it did not come through the gateway."""
    label: str | None = (body["metadata"].get("labels") or {}).get(CALLER_LABEL)
    return label


def manager_of(body: Json) -> str:
    """Return what manages a tool that did not come through the gateway, as far as it says so."""
    return (body["metadata"].get("labels") or {}).get(_MANAGED_BY) or "somebody with kubectl"


def tool_of(body: Json) -> Tool:
    """Return a tool as it is listed.

    Raises:
        pydantic.ValidationError: it is wrong, so the operator does not know it either.
    """
    given = body["metadata"]
    annotations = given.get("annotations") or {}
    spelt = annotations.get(TOOL_NAME_ANNOTATION)
    metadata = {name: value for name, value in given.items() if name != "managedFields"} | {
        # Whoever writes the annotation does not give a tool another's name.
        "name": spelt if spelt and normalise(spelt) == given["name"] else given["name"],
        "labels": without(OWN_LABELS, given.get("labels") or {}),
        "annotations": without(OWN_ANNOTATIONS, annotations),
    }
    return Tool.model_validate({**body, "metadata": metadata}, by_alias=True, by_name=False, extra="ignore")


def _body(tool: Tool, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, Any]) -> Json:
    name = normalise(tool.name)
    spelt = {} if name == tool.name else {TOOL_NAME_ANNOTATION: tool.name}
    return {
        "apiVersion": tool.api_version,
        "kind": tool.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(labels),
            "annotations": {**annotations, **tool.metadata.annotations, **spelt},
        },
        "spec": tool.spec.to_wire(),
    }
