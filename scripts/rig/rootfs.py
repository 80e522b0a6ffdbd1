"""Root file systems from Debian's packages, for the images that cannot be pulled."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig import recipes
from rig.errors import RigError
from rig.paths import cache
from rig.progress import step
from rig.shell import install_debian_packages, is_root, output, succeeds
from rig.versions import DEBIAN

if TYPE_CHECKING:
    from pathlib import Path

_BUILD_SECONDS = 1200
_IMPORT_SECONDS = 300

# What Debian's own slim image leaves out, and for the same reason.
_SLIM = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
)


@dataclass(frozen=True)
class RootFileSystem:
    """A Debian of the release in `versions`, with packages on top of the minimal ones."""

    name: str
    packages: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The name under which Docker knows it; another recipe has another name."""
        return f"corral-rig/{self.name}:{DEBIAN}-{recipes.key(self, _SLIM)}"


NODE = RootFileSystem(
    "node-rootfs",
    (
        # kind's own list (images/base/Dockerfile in its repository), without the clients of network storage.
        *(
            "systemd",
            "conntrack",
            "iptables",
            "nftables",
            "iproute2",
            "ethtool",
            "util-linux",
            "mount",
            "kmod",
        ),
        *("libseccomp2", "pigz", "fuse-overlayfs", "e2fsprogs", "ca-certificates", "curl", "jq", "procps"),
        # What kind's base image has already, what kubeadm's preflight asks for, and what replaces its downloads.
        *("dbus", "hostname", "socat", "ebtables", "containernetworking-plugins"),
        # The rig's agent.
        "python3",
    ),
)
CONTROL_PLANE = RootFileSystem("control-plane-rootfs", ("conntrack", "iptables", "kmod", "nftables"))
SLIM = RootFileSystem("debian-rootfs", ())


def ensure(wanted: RootFileSystem) -> str:
    """Make sure that Docker has it as an image.

    Returns:
        The image's name.
    """
    if succeeds(["docker", "image", "inspect", wanted.image]):
        return wanted.image
    tarball = _tarball(wanted)
    with step(f"importing {wanted.image}"):
        change = ["--change", 'CMD ["bash"]']
        output(["docker", "import", *change, tarball, wanted.image], timeout_seconds=_IMPORT_SECONDS)
    return wanted.image


def _tarball(wanted: RootFileSystem) -> Path:
    target = cache() / "rootfs" / f"{wanted.name}-{wanted.image.rpartition(':')[2]}.tar"
    if target.exists():
        return target
    if not is_root():
        raise RigError(
            "only root can make a Debian root file system", "Run this as root, or where images can be pulled."
        )
    if shutil.which("mmdebstrap") is None:
        install_debian_packages("mmdebstrap", why="making a root file system")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".partial{target.suffix}")
    command = ["nice", "mmdebstrap", "--variant=minbase", "--quiet"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _SLIM]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    # The options above would otherwise stay in the image, the caches of apt too.
    command += ["--customize-hook=rm -f $1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"]
    if wanted.packages:
        command += [f"--include={','.join(wanted.packages)}"]
    with step(f"making {wanted.name} from Debian's packages"):
        output([*command, DEBIAN, partial], timeout_seconds=_BUILD_SECONDS)
    partial.rename(target)
    return target
