"""The runner's command line and environment in a pod. Read by ``corral_runner.__main__``, ``.settings`` and
``.environment``; what changes there changes here and nowhere else.
"""

import json
from collections.abc import Sequence
from typing import Any

from corral.cluster.names import RUNNER_PORT
from corral.sandbox.preload import PRELOAD
from corral_operator.settings import Settings

#: Where a tool may write. One file system, so one size bounds their sum.
SCRATCH_DIRECTORIES = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108 - directories of the sandbox
#: What a container runtime puts around every container of a pod with no host namespaces.
_POD_LAYERS = ("pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns")
#: The runner takes variables of this prefix for secrets of tasks, so that none of them can be one that steers the
#: interpreter or the runner itself, such as LD_PRELOAD.
SECRET_PREFIX = "CORRAL_SECRET_"  # noqa: S105 - a prefix


def runner_settings(settings: Settings, *, waits: bool) -> dict[str, Any]:
    """Return what the runner is told of its room.

    Args:
        settings: of the operator.
        waits: it waits for work, and has the time to import what that may need.
    """
    return {
        "preload": list(PRELOAD) if waits else [],
        "listen": {"port": RUNNER_PORT},
        "outer": [*_POD_LAYERS] if settings.host_users else ["userns", *_POD_LAYERS],
        "fileSystems": [*SCRATCH_DIRECTORIES],
        "privateUsers": not settings.host_users,
        "lingerSeconds": settings.linger_seconds,
    }


def runner_args(settings: dict[str, Any]) -> list[str]:
    """Return the container's ``args``; its command is the image's own entry point, sandbox-image/Dockerfile.

    The settings are no secret: a pod's spec is read by more people than its owner.
    """
    return [json.dumps(settings, separators=(",", ":"), sort_keys=True)]


def runner_env(start_token_sha256: str, read_token_sha256: str) -> Sequence[dict[str, Any]]:
    """Return the variables that the runner takes out of its environment when it starts."""
    return (
        {"name": "CORRAL_LISTEN_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CORRAL_START_TOKEN_SHA256", "value": start_token_sha256},
        {"name": "CORRAL_READ_TOKEN_SHA256", "value": read_token_sha256},
    )
