"""The chart, installed with the images that were built here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig import binaries
from rig.paths import REPOSITORY
from rig.progress import step
from rig.shell import output
from rig.versions import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RELEASE = "corral"
_CHART = REPOSITORY / "charts/corral"
_TAG = "dev"
_INSTALL_SECONDS = 300


def install(kubeconfig: Path, namespace: str, values: Sequence[str] = ()) -> None:
    """Install the chart, or upgrade what is installed, and wait until operator and gateway are ready.

    Args:
        kubeconfig: of the cluster; its nodes have the images already.
        namespace: of the release.
        values: more settings, as helm's ``--set-json`` takes them.
    """
    with step(f"installing the chart into {namespace}"):
        output(
            [
                *(helm(), "upgrade", "--install", RELEASE, str(_CHART)),
                *("--namespace", namespace, "--create-namespace"),
                *("--set", f"image.tag={_TAG}", "--set", f"sandbox.image.tag={_TAG}"),
                *("--set", f"gateway.image.tag={_TAG}"),
                *(word for value in values for word in ("--set-json", value)),
                *("--wait", f"--timeout={_INSTALL_SECONDS}s"),
            ],
            timeout_seconds=_INSTALL_SECONDS + 60,
            env={"KUBECONFIG": str(kubeconfig)},
        )


def uninstall(kubeconfig: Path, namespace: str) -> None:
    """Take the release away, and wait until it is gone."""
    with step(f"taking the chart out of {namespace}"):
        output(
            [helm(), "uninstall", RELEASE, "--namespace", namespace, "--wait", "--ignore-not-found"],
            timeout_seconds=_INSTALL_SECONDS,
            env={"KUBECONFIG": str(kubeconfig)},
        )


def helm() -> str:
    """Return the path of helm, built if it is not there."""
    binaries.build(tuple(program for program in PROGRAMS if program.name == "helm"))
    return str(binaries.links() / "helm")
