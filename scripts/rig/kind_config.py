"""The configuration of the cluster, as kind takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from rig.paths import KIND_FILES

if TYPE_CHECKING:
    from rig.node_image import NodeImage

BASE = KIND_FILES / "cluster.yaml"


def render(base: str, *, workers: int, image: NodeImage) -> str:
    """The committed configuration with this cluster's workers and image.

    Args:
        base: the text of `k8s/kind/cluster.yaml`.
        workers: how many nodes there are besides the control plane.
        image: of every node; with the rig's own, the pod network is the rig's agent's.
    """
    configuration: dict[str, Any] = yaml.safe_load(base)
    nodes = [*configuration["nodes"], *({"role": "worker"} for _ in range(workers))]
    configuration["nodes"] = [{**node, "image": image.name} for node in nodes]
    if image.own:
        configuration["networking"] = {**configuration.get("networking", {}), "disableDefaultCNI": True}
    return yaml.safe_dump(configuration, sort_keys=False)
