"""Images of the Docker daemon for the cluster's nodes: only what a node has not got already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig import binaries
from rig.progress import say, step
from rig.shell import output

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOAD_SECONDS = 900
# On the node's record of an image: the daemon's ID of what was loaded. An import under the same name replaces the
# record, and with it the label. kind's own check asks crictl, which the rig's node image has not.
_LABEL = "corral-rig/id"


def load(cluster: str, images: Sequence[str], nodes: Sequence[str]) -> None:
    """Give images to nodes, `kind load docker-image` where something is missing."""
    ids = {
        image: output(["docker", "image", "inspect", "--format={{.Id}}", image]).strip() for image in images
    }
    for image, identity in ids.items():
        lacking = [node for node in nodes if not _has(node, image, identity)]
        if not lacking:
            say(f"every node has {image} already")
            continue
        with step(f"loading {image} into {', '.join(lacking)}"):
            where = ["--name", cluster, f"--nodes={','.join(lacking)}"]
            output(
                [binaries.path("kind"), "load", "docker-image", image, *where], timeout_seconds=_LOAD_SECONDS
            )
        for node in lacking:
            _ctr(node, "label", reference(image), f"{_LABEL}={identity}")


def reference(image: str) -> str:
    """The full name that a node knows an image by, as https://github.com/distribution/reference normalizes it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        full = image
    else:
        full = f"docker.io/{image}" if slash else f"docker.io/library/{image}"
    return full if ":" in full.rpartition("/")[2] else f"{full}:latest"


def _has(node: str, image: str, identity: str) -> bool:
    return bool(
        _ctr(node, "ls", "--quiet", f'name=={reference(image)},labels."{_LABEL}"=={identity}').strip()
    )


def _ctr(node: str, *arguments: str) -> str:
    return output(["docker", "exec", node, "ctr", "--namespace=k8s.io", "images", *arguments])
