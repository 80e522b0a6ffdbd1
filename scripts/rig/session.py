"""A whole session: a cluster, the project's images in it, the cluster tests, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rig import binaries, chart, cluster, docker, images
from rig.kubectl import Kubectl
from rig.paths import REPOSITORY, kubeconfig
from rig.progress import say, step
from rig.versions import PROGRAMS

if TYPE_CHECKING:
    import argparse

_TESTS = REPOSITORY / "tests/cluster"


def up(options: argparse.Namespace) -> Path:
    """Make sure of the cluster that the options describe; the kubeconfig that leads to it."""
    file = options.kubeconfig or kubeconfig(options.name)
    cluster.up(
        options.name,
        file,
        workers=options.workers,
        build_node_image=options.build_node_image,
        enforce=options.enforce_policies,
    )
    return file


def provide_images(name: str) -> None:
    """Build the project's images and give them to the cluster's nodes."""
    for image in images.IMAGES:
        images.build(image)
    cluster.load(name, [image.tag for image in images.IMAGES])


def install_for_tests(file: Path) -> None:
    """Install the chart as the cluster tests want it: it serves every namespace, for each test has its own."""
    chart.install(file, "corral", ['namespaces=["*"]', "pools=[]"])


def test(options: argparse.Namespace) -> int:
    """Run the cluster tests: against $KUBECONFIG if it is set and answers, else against a cluster made for them.

    Returns:
        What pytest ended with. There is no skipping: whoever has no cluster gets an error.
    """
    given = os.environ.get("KUBECONFIG")
    if given and Kubectl(Path(given)).answers():
        if _is_ours(Kubectl(Path(given)), options.name):
            provide_images(options.name)
            install_for_tests(Path(given))
        else:
            tags = ", ".join(image.tag for image in images.IMAGES)
            say(f"the cluster of KUBECONFIG={given} is none of the rig's; it has to have the images {tags}")
        return _pytest(Path(given), options.pytest_arguments)
    if given:
        say(f"no cluster answers for KUBECONFIG={given}: making one")
    try:
        file = up(options)
        provide_images(options.name)
        install_for_tests(file)
        return _pytest(file, options.pytest_arguments)
    finally:
        # Without a daemon there is no cluster to delete, and saying so would hide why there is none.
        if not options.keep and docker.reaches_any():
            cluster.down(options.name, options.kubeconfig or kubeconfig(options.name))
            docker.stop(if_idle=True)


def test_docker(options: argparse.Namespace) -> int:
    """Run the tests of the Docker backend, on the daemon there is or on the rig's own.

    Returns:
        What pytest ended with.
    """
    docker.connect()
    sandbox = images.IMAGES[0]
    images.build(sandbox)
    command = [sys.executable, "-m", "pytest", "tests/contract", "tests/integration/docker"]
    with step("the Docker backend"):
        return subprocess.run(
            [*command, "--backend", "docker", *options.pytest_arguments],
            cwd=REPOSITORY,
            env={**os.environ, "CORRAL_DOCKER_IMAGE": sandbox.tag},
            check=False,
        ).returncode


def _pytest(file: Path, arguments: list[str]) -> int:
    binaries.build(tuple(program for program in PROGRAMS if program.name in ("helm", "kubeconform")))
    env = {**os.environ, "KUBECONFIG": str(file), "PATH": f"{binaries.links()}:{os.environ['PATH']}"}
    with step("tests/cluster"):
        return subprocess.run(
            [sys.executable, "-m", "pytest", str(_TESTS), *arguments], cwd=REPOSITORY, env=env, check=False
        ).returncode


def _is_ours(kubectl: Kubectl, name: str) -> bool:
    """Whether a kubeconfig leads to the kind cluster of this name, whose nodes take images from the daemon here."""
    if not docker.reaches_any() or not cluster.exists(name):
        return False
    found = {item["metadata"]["name"] for item in kubectl.json("get", "nodes")["items"]}
    return found >= set(cluster.nodes(name))
