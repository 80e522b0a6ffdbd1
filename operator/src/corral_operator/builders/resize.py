"""More CPU and memory for a sandbox that runs already."""

from typing import Any

from corral.cluster.port import ObjectKey
from corral_operator.builders.resources import container_resources
from corral_operator.builders.sandbox_pod import resize_policy
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.names import CONTAINER
from corral_operator.settings import Settings


def resize_patch(pod: ObjectKey, size: SandboxSize, settings: Settings) -> dict[str, Any]:
    """Return the JSON merge patch for the pod's ``resize`` subresource.

    A merge patch replaces the list of containers. This subresource takes of it only ``resources`` and
    ``resizePolicy``, by name, and keeps the rest of the pod as it was (``dropNonResizeUpdates``,
    pkg/registry/core/pod/strategy.go), so a container with those two is a whole one here.

    Args:
        pod: exactly this pod; one that took its name is refused.
        size: what it is to have. Its disk is the pod's own: a volume cannot be resized.
        settings: the fractions that are reserved. The same as at the pod's creation, so its QoS class stays, which
            the API server insists on.
    """
    return {
        "metadata": {"uid": pod.uid},
        "spec": {
            "containers": [
                {
                    "name": CONTAINER,
                    "resources": container_resources(size, settings),
                    "resizePolicy": resize_policy(),
                }
            ]
        },
    }
