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
    from collections.abc import Sequence

#: What installs releases of its own, or looks at what the chart makes: run before there is a release for all.
_OWN_RELEASES = (
    "test_admission_*.py",
    "test_chart.py",
    "test_gateway_artifacts.py",
    "test_gateway_chart.py",
    "test_gateway_replicas.py",
    "test_rbac.py",
)
_CLUSTER, _FAULTS = REPOSITORY / "tests/cluster", REPOSITORY / "tests/faults"
#: For each of them that names no other: pods start in seconds, on a busy machine in tens of them.
_TEST_SECONDS = 300
#: pytest's exit code where its arguments select nothing.
_NOTHING_SELECTED = 5


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


def provide_images(name: str, wanted: Sequence[images.Image] = images.IMAGES) -> None:
    """Build images, the project's, and give them to the cluster's nodes."""
    for image in wanted:
        images.build(image)
    cluster.load(name, [image.tag for image in wanted])


def test(options: argparse.Namespace) -> int:
    """Run the cluster tests: against $KUBECONFIG if it is set and answers, else against a cluster made for them.

    Returns:
        What pytest ended with. There is no skipping: whoever has no cluster gets an error.
    """
    given, needed = os.environ.get("KUBECONFIG"), images.IMAGES + images.TEST_IMAGES
    if given and Kubectl(Path(given)).answers():
        if _is_ours(Kubectl(Path(given)), options.name):
            provide_images(options.name, needed)
        else:
            tags = ", ".join(image.tag for image in needed)
            say(f"the cluster of KUBECONFIG={given} is none of the rig's; it has to have the images {tags}")
        return _all_tests(Path(given), options.pytest_arguments)
    if given:
        say(f"no cluster answers for KUBECONFIG={given}: making one")
    try:
        file = up(options)
        provide_images(options.name, needed)
        return _all_tests(file, options.pytest_arguments)
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


def _all_tests(file: Path, arguments: list[str]) -> int:
    """Run the cluster tests: first those that install releases, then those of one for all, then the faults.

    The last have operators of their own, which they kill; no other may serve their tasks meanwhile.

    Returns:
        The first exit code of pytest that is none of success.
    """
    binaries.build(
        tuple(program for program in PROGRAMS if program.name in ("helm", "kubeconform", "versitygw"))
    )
    own = [str(found) for pattern in _OWN_RELEASES for found in sorted(_CLUSTER.glob(pattern))]
    codes = [_pytest("releases of their own", file, own, arguments)]
    # No gateway: the tests of this part are about the operator, and measure it. Those that try one start their own.
    gateways = 'runnerSources=["app.kubernetes.io/component=gateway"]'
    chart.install(file, "corral", ['namespaces=["*"]', "pools=[]", "gateway.enabled=false", gateways])
    rest = [str(_CLUSTER), *(f"--ignore={found}" for found in own)]
    codes.append(_pytest("one release for all", file, rest, arguments))
    chart.uninstall(file, "corral")
    codes.append(_pytest("faults", file, [str(_FAULTS)], arguments))
    if set(codes) == {_NOTHING_SELECTED}:
        return _NOTHING_SELECTED
    return next((code for code in codes if code not in (0, _NOTHING_SELECTED)), 0)


def _pytest(what: str, file: Path, tests: list[str], arguments: list[str]) -> int:
    env = {**os.environ, "KUBECONFIG": str(file), "PATH": f"{binaries.links()}:{os.environ['PATH']}"}
    with step(f"cluster tests: {what}"):
        return subprocess.run(
            [sys.executable, "-m", "pytest", f"--timeout={_TEST_SECONDS}", *tests, *arguments],
            cwd=REPOSITORY,
            env=env,
            check=False,
        ).returncode


def _is_ours(kubectl: Kubectl, name: str) -> bool:
    """Whether a kubeconfig leads to the kind cluster of this name, whose nodes take images from the daemon here."""
    if not docker.reaches_any() or not cluster.exists(name):
        return False
    found = {item["metadata"]["name"] for item in kubectl.json("get", "nodes")["items"]}
    return found >= set(cluster.nodes(name))
