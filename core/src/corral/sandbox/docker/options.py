"""What the person who runs Corral decides about the Docker backend."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from corral.sandbox.errors import IsolationUnavailableError

DEFAULT_IMAGE = "corral/sandbox:dev"


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """Read once, before the backend starts."""

    #: The image that sandboxes are made of, unless a tool names its own.
    image: str = DEFAULT_IMAGE
    #: As ``DOCKER_HOST``; None for what the environment says, or else the local socket.
    host: str | None = None
    #: ``missing``: an image that is not there is pulled. ``never``: the task is refused.
    pull: Literal["never", "missing"] = "never"
    #: The OCI runtime, such as ``runsc``; None for the daemon's default.
    runtime: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``CORRAL_DOCKER_IMAGE``, ``CORRAL_DOCKER_PULL`` and ``CORRAL_DOCKER_RUNTIME``.

        Raises:
            IsolationUnavailableError: one of them is not what it may be.
        """
        pull = environment.get("CORRAL_DOCKER_PULL", "never")
        if pull not in {"never", "missing"}:
            raise IsolationUnavailableError(
                f"CORRAL_DOCKER_PULL is {pull!r}", "It may be never (the default) or missing"
            )
        return cls(
            image=environment.get("CORRAL_DOCKER_IMAGE") or DEFAULT_IMAGE,
            pull="missing" if pull == "missing" else "never",
            runtime=environment.get("CORRAL_DOCKER_RUNTIME") or None,
        )
