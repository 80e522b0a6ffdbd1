"""Where the values of ``secretRefs`` come from on one machine."""

import os
from pathlib import Path
from typing import Protocol


class SecretMissingError(Exception):
    """A secret that a task refers to is not there."""


class SecretSource(Protocol):
    """Gives secret values by name and key."""

    def get(self, name: str, key: str) -> str:
        """Return the value.

        Raises:
            SecretMissingError: there is none.
        """
        ...


class DirectorySecrets:
    """A directory per secret and a file per key, as Kubernetes mounts them."""

    def __init__(self, directory: Path | None = None) -> None:
        """Use a directory; by default ``$CORRAL_SECRETS``, or ``corral/secrets`` in the user's configuration."""
        if directory is None:
            configured = os.environ.get("CORRAL_SECRETS")
            home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
            directory = Path(configured) if configured else home / "corral" / "secrets"
        self._directory = directory

    def get(self, name: str, key: str) -> str:
        # Both names match the resource's patterns, which have no slash and may yet be dots.
        if {name, key} & {".", ".."}:
            raise SecretMissingError(f"{name}/{key} is no name of a secret")
        path = self._directory / name / key
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SecretMissingError(
                f"secret {name} has no key {key} ({path}: {why}). Write the value to that file"
            ) from None
