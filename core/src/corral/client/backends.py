"""The backends that a client of this machine can choose, by name."""

import os
from typing import Final, Literal, TypeAlias

from corral.sandbox.port import SandboxBackend

BackendName: TypeAlias = Literal["embedded", "docker"]
VARIABLE: Final = "CORRAL_BACKEND"


def make_backend(name: str | None, *, waiting: int) -> SandboxBackend:
    """Make a backend; nothing starts yet.

    Args:
        name: ``embedded`` or ``docker``; None for what ``CORRAL_BACKEND`` says, or else ``embedded``.
        waiting: how many sandboxes it keeps started ahead of need.

    Raises:
        IsolationUnavailableError: a part of it is not installed. No other is taken in its place.
        ValueError: there is none of the name.
    """
    chosen = name or os.environ.get(VARIABLE) or "embedded"
    # Imported only when chosen: the Docker SDK alone takes a fifth of a second.
    if chosen == "embedded":
        from corral.sandbox.embedded import EmbeddedBackend

        return EmbeddedBackend(waiting=waiting)
    if chosen == "docker":
        from corral.sandbox.docker import DockerBackend

        return DockerBackend(waiting=waiting)
    raise ValueError(f"there is no backend {chosen!r}; {VARIABLE} and backend= know embedded and docker")
