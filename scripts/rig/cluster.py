"""The kind cluster: up, loaded, down."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rig import binaries, docker, kind_config, kwok, loading, node_agent, node_image, switch
from rig.errors import RigError
from rig.kubectl import Kubectl
from rig.progress import say, step
from rig.shell import output

if TYPE_CHECKING:
    from collections.abc import Sequence

_CREATE_SECONDS = 600
_READY_SECONDS = 180
_OWN_IMAGES = "corral-rig/node:"
# How kind ends the name of a control plane; it lets no ordinary pod run there if there are workers.
_CONTROL_PLANE = "-control-plane"


def up(
    name: str, kubeconfig: Path, *, workers: int, build_node_image: bool = False, enforce: bool = True
) -> None:
    """Make sure that the cluster is there, all its nodes are ready, and `kubeconfig` leads to it.

    Args:
        name: of the cluster; its nodes are containers called `<name>-control-plane`, `<name>-worker`, …
        kubeconfig: a file of its own, replaced.
        workers: nodes besides the control plane, for a cluster that has to be made.
        build_node_image: use the rig's own node image even where kind's can be pulled.
        enforce: whether the rig's agent enforces network policies; kind's own network always does.
    """
    docker.connect()
    if exists(name):
        say(f"the cluster {name} is already up")
    else:
        _create(name, kubeconfig, workers, node_image.ensure(build=build_node_image))
    _kind("export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))
    kubectl = Kubectl(kubeconfig)
    if has_agent(name):
        with step("starting the pod network"):
            node_agent.install(kubectl, nodes(name))
        switch.turn(kubectl, nodes(name), on=enforce)
    with step("waiting until every node is ready"):
        _wait_until_ready(kubectl)


def down(name: str, kubeconfig: Path) -> None:
    """Delete the cluster, with its network if no other cluster of kind's uses it."""
    kwok.stop(name)
    if not exists(name):
        say(f"there is no cluster {name}")
    else:
        with step(f"deleting the cluster {name}"):
            _kind("delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), timeout_seconds=180)
    kubeconfig.unlink(missing_ok=True)
    if docker.is_own() and not _kind("get", "clusters", "--quiet").split():
        _remove_network()


def load(name: str, images: Sequence[str]) -> None:
    """Give images of the Docker daemon to the nodes that run pods: a control plane only where there is no worker."""
    everyone = nodes(name)
    takers = [node for node in everyone if not node.endswith(_CONTROL_PLANE)] or everyone
    loading.load(name, images, takers)


def exists(name: str) -> bool:
    return name in _kind("get", "clusters", "--quiet").split()


def nodes(name: str) -> list[str]:
    return sorted(_kind("get", "nodes", "--name", name, "--quiet").split())


def has_agent(name: str) -> bool:
    """Whether the nodes are made from the rig's own image, so that the rig's agent is their network."""
    told = json.loads(output(["docker", "inspect", nodes(name)[0]]))
    return str(told[0]["Config"]["Image"]).startswith(_OWN_IMAGES)


def _create(name: str, kubeconfig: Path, workers: int, image: node_image.NodeImage) -> None:
    text = kind_config.render(kind_config.BASE.read_text(encoding="utf-8"), workers=workers, image=image)
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="corral-rig-") as folder:
        file = Path(folder) / "cluster.yaml"
        file.write_text(text, encoding="utf-8")
        with step(f"creating the cluster {name}: control plane and {workers} workers"):
            options = ["--name", name, "--config", str(file), "--kubeconfig", str(kubeconfig)]
            _kind("create", "cluster", *options, timeout_seconds=_CREATE_SECONDS)


def _remove_network() -> None:
    """Remove the network that kind keeps for the next cluster: the daemon of the rig is left as it was found."""
    if "kind" in output(["docker", "network", "ls", "--format={{.Name}}"]).split():
        output(["docker", "network", "rm", "kind"])


def _wait_until_ready(kubectl: Kubectl) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    waiting: list[str] = []
    while time.monotonic() < deadline:
        waiting = [
            item["metadata"]["name"]
            for item in kubectl.json("get", "nodes")["items"]
            if not _is_ready(item) and kwok.ANNOTATION not in item["metadata"].get("annotations", {})
        ]
        if not waiting:
            kubectl(
                "wait",
                "--namespace=kube-system",
                "--for=condition=Available",
                "deployment/coredns",
                f"--timeout={_READY_SECONDS}s",
                timeout_seconds=_READY_SECONDS + 10,
            )
            return
        time.sleep(0.5)
    raise RigError(
        f"not ready after {_READY_SECONDS} s: {', '.join(waiting)}",
        f"`docker exec {waiting[0]} journalctl --no-pager -n 50` tells more (DOCKER_HOST as `rig docker` prints it).",
    )


def _is_ready(node: dict[str, object]) -> bool:
    conditions = node["status"]["conditions"]  # type: ignore[index]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _kind(*arguments: str, timeout_seconds: float = 60) -> str:
    return output([binaries.path("kind"), *arguments], timeout_seconds=timeout_seconds)
