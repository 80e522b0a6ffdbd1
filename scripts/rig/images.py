"""The project's images: built with the right base, loaded into the cluster."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rig import base_image, docker
from rig.errors import RigError
from rig.paths import REPOSITORY
from rig.progress import step
from rig.shell import output

_BUILD_SECONDS = 1800
# What Docker hands to each step without keeping it: https://docs.docker.com/reference/dockerfile/#predefined-args
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")

# The argument of the project's Dockerfiles for a certificate that reaches the package indexes; used in a stage whose
# file system is not the image's.
_CERTIFICATE = "EXTRA_CA_CERTIFICATE"
# Where Debian's kin and Fedora's kin keep the certificates that an administrator has added.
_ADDED = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors")


@dataclass(frozen=True)
class Image:
    """One image of the project: its tag, and where it is built from."""

    tag: str
    dockerfile: Path
    context: Path = REPOSITORY


IMAGES = (
    Image("corral/sandbox:dev", REPOSITORY / "sandbox-image/Dockerfile"),
    Image("corral/operator:dev", REPOSITORY / "operator/Dockerfile"),
    Image("corral/gateway:dev", REPOSITORY / "gateway/Dockerfile"),
)

#: What the cluster tests need besides.
TEST_IMAGES = (Image("corral/test-servers:dev", REPOSITORY / "tests/cluster/servers/Dockerfile"),)


def build(image: Image) -> None:
    """Build an image. Its Dockerfile has `ARG BASE=debian:bookworm-slim` and `FROM ${BASE}`; a stage that fetches from a
    package index over HTTPS has `ARG EXTRA_CA_CERTIFICATE`, too.

    Raises:
        RigError: the Dockerfile is not there, or a step of it failed.
    """
    if not image.dockerfile.exists():
        raise RigError(f"there is no {image.dockerfile}")
    with step(f"building {image.tag}"):
        output(
            ["docker", "build", *_options(image), str(image.context)],
            timeout_seconds=_BUILD_SECONDS,
            env=docker.classic_builder() | {_CERTIFICATE: certificates()},
        )


def certificates() -> str:
    """The certificates that this machine trusts on top of the world's (PEM); empty on most."""
    files = [file for folder in _ADDED for file in sorted(Path(folder).glob("*.crt"))]
    return "\n".join(file.read_text(encoding="ascii").strip() for file in files)


def _options(image: Image) -> list[str]:
    options = [
        "--file",
        str(image.dockerfile),
        "--tag",
        image.tag,
        "--build-arg",
        f"BASE={base_image.ensure()}",
    ]
    if re.search(rf"^ARG {_CERTIFICATE}\b", image.dockerfile.read_text(encoding="utf-8"), re.MULTILINE):
        options += ["--build-arg", _CERTIFICATE]
    for name in (*_PROXIES, *(name.lower() for name in _PROXIES)):
        if name in os.environ:
            options += ["--build-arg", name]  # without a value: the client reads it from its environment
    if docker.is_own():
        # The machine's own network, for it may reach the package indexes in a way that a bridge cannot.
        options += ["--network=host"]
    return options
