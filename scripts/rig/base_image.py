"""`debian:bookworm-slim`, from the registry or, where no registry can be reached, made from Debian's packages."""

from __future__ import annotations

from rig import docker, rootfs
from rig.progress import say
from rig.shell import output
from rig.versions import DEBIAN

_REGISTRYS = f"debian:{DEBIAN}-slim"
_OWN = f"corral-rig/debian:{DEBIAN}-slim"


def ensure(*, build: bool = False) -> str:
    """The name of an image that is as good as the registry's.

    Args:
        build: make it here even where the registry's could be pulled.
    """
    if not build and docker.pulls(_REGISTRYS):
        return _REGISTRYS
    output(["docker", "tag", rootfs.ensure(rootfs.SLIM), _OWN])
    say(f"base image: {_OWN}")
    return _OWN
