"""The image of a kind node: kind's own where it can be pulled, one made here from Debian and Go modules elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rig import binaries, docker, recipes, rootfs
from rig.errors import RigError
from rig.paths import KIND_FILES
from rig.progress import say, step
from rig.shell import output, succeeds
from rig.versions import KIND, KUBERNETES, PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = KIND_FILES / "node"
_BUILD_SECONDS = 900
_CONTAINERD_SECONDS = 30

# On the control plane's image these names differ only in what the static pods call.
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd")
_COREDNS = 'FROM scratch\nCOPY coredns /coredns\nENTRYPOINT ["/coredns"]\n'
_PAUSE = 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n'
# What kind's containerd configuration names, whatever kubeadm lists.
_SANDBOX_IMAGE = "registry.k8s.io/pause:3.10"
_NODE_BINARIES = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "kubelet")


@dataclass(frozen=True)
class NodeImage:
    """Attributes: the image's name, and whether it is the rig's own, which brings no pod network."""

    name: str
    own: bool


def ensure(*, build: bool = False) -> NodeImage:
    """The node image, made or pulled if it is missing.

    Args:
        build: make the rig's own even where kind's could be pulled.
    """
    name = own_name()
    if succeeds(["docker", "image", "inspect", name]):
        return NodeImage(name, own=True)
    kinds = f"kindest/node:{KUBERNETES}"
    if not build and docker.pulls(kinds):
        return NodeImage(kinds, own=False)
    say(f"{kinds} cannot be pulled: making a node image")
    _build(name)
    return NodeImage(name, own=True)


def own_name() -> str:
    programs = (*_NODE_BINARIES, "etcd", "coredns", "pause")
    keys = [binaries.recipe_key(binaries.program(program)) for program in programs]
    parts = (keys, rootfs.NODE, rootfs.CONTROL_PLANE, KIND, recipes.contents(_SOURCE))
    return f"corral-rig/node:{KUBERNETES}-{recipes.key(parts)}"


def _build(name: str) -> None:
    wanted = {binaries.program(program) for program in (*_NODE_BINARIES, "etcd", "coredns", "pause")}
    binaries.build(tuple(program for program in PROGRAMS if program in wanted))
    bare = f"{name}-bare"
    with step("building the node's file system"), _context() as context:
        _docker_build(context, "Dockerfile", bare, rootfs.ensure(rootfs.NODE))
    images = _control_plane_images()
    with step("importing the control plane's images into the node image"):
        _import_images(bare, images, name)
    output(["docker", "image", "rm", "--force", bare, *images], timeout_seconds=120)


@contextmanager
def _context() -> Iterator[Path]:
    """A build context: the files of `k8s/kind/node`, kind's own under `kind/`, the binaries under `bin/`."""
    with tempfile.TemporaryDirectory(prefix="corral-rig-") as folder:
        context = Path(folder)
        shutil.copytree(_SOURCE, context, dirs_exist_ok=True)
        kind = Path(binaries.module("sigs.k8s.io/kind", KIND)["Dir"])
        # The module cache is read-only, and the copies have to be removable.
        shutil.copytree(kind / "images/base/files", context / "kind", copy_function=shutil.copyfile)
        for parent, _, _ in os.walk(context):
            Path(parent).chmod(0o755)
        (context / "bin").mkdir()
        for name in (*_NODE_BINARIES, "kube-apiserver", "etcd"):
            shutil.copy(binaries.path(name), context / "bin" / name)
        yield context


def _docker_build(context: Path, dockerfile: str, tag: str, base: str = "") -> None:
    options = ["--build-arg", f"ROOTFS={base}"] if base else []
    output(
        ["docker", "build", "--quiet", *options, "--file", context / dockerfile, "--tag", tag, context],
        timeout_seconds=_BUILD_SECONDS,
        env=docker.classic_builder(),
    )


def _control_plane_images() -> list[str]:
    """Build what `kubeadm config images list` names; the names."""
    listed = output(
        [binaries.path("kubeadm"), "config", "images", "list", "--kubernetes-version", KUBERNETES]
    ).split()
    base = rootfs.ensure(rootfs.CONTROL_PLANE)
    with step("building the control plane's images"):
        with _context() as context:
            control_plane = f"corral-rig/control-plane:{KUBERNETES}"
            _docker_build(context, "control-plane.Dockerfile", control_plane, base)
        for image in (*listed, _SANDBOX_IMAGE):
            short = image.rpartition("/")[2].partition(":")[0]
            if short in _CONTROL_PLANE:
                output(["docker", "tag", control_plane, image])
            elif short in ("coredns", "pause"):
                _build_single(short, _COREDNS if short == "coredns" else _PAUSE, image)
            else:
                raise RigError(f"kubeadm asks for {image}, which the rig has no recipe for")
        output(["docker", "image", "rm", control_plane])
    return list(dict.fromkeys((*listed, _SANDBOX_IMAGE)))


def _build_single(binary: str, dockerfile: str, tag: str) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-rig-") as folder:
        shutil.copy(binaries.path(binary), folder)
        (Path(folder) / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        _docker_build(Path(folder), "Dockerfile", tag)


def _import_images(bare: str, images: list[str], name: str) -> None:
    container = output(
        [
            "docker",
            "run",
            "--detach",
            "--privileged",
            "--network=none",
            "--entrypoint=sleep",
            bare,
            "infinity",
        ]
    ).strip()
    inside = ["docker", "exec", "--interactive", container]
    try:
        # Detached, so that it outlives the exec that starts it.
        output(["docker", "exec", "--detach", container, "containerd"])
        deadline = time.monotonic() + _CONTAINERD_SECONDS
        while not succeeds([*inside, "ctr", "version"]):
            if time.monotonic() > deadline:
                raise RigError(f"containerd does not start in {bare}")
            time.sleep(0.2)
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            output(["docker", "save", "--output", archive.name, *images], timeout_seconds=_BUILD_SECONDS)
            # As kind does it: unpacked only when first used, pinned so that the kubelet never removes them.
            load = ["ctr", "-n", "k8s.io", "images", "import", "--label=io.cri-containerd.pinned=pinned"]
            output(["docker", "cp", archive.name, f"{container}:/images.tar"], timeout_seconds=_BUILD_SECONDS)
            output(
                [*inside, *load, "--all-platforms", "--no-unpack", "--digests", "/images.tar"],
                timeout_seconds=_BUILD_SECONDS,
            )
        output(
            [
                *inside,
                "sh",
                "-c",
                "rm /images.tar; kill $(pidof containerd); while pidof containerd; do sleep 0.1; done",
            ]
        )
        entrypoint = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
        output(
            ["docker", "commit", "--change", entrypoint, "--change", "CMD []", container, name],
            timeout_seconds=600,
        )
    finally:
        output(["docker", "rm", "--force", "--volumes", container])
