"""Where tools come from: which there are may depend on who asks."""

from typing import Protocol

from corral.catalogue import Catalogue


class ToolSource(Protocol):
    """The tools of callers."""

    def catalogue(self, caller: str) -> Catalogue:
        """Return the tools that a caller's tasks may name, as they stand now; only to be read.

        Raises:
            ProblemError: they cannot be known at the moment.
        """
        ...


class OneCatalogue:
    """A ``ToolSource``: the same tools for everybody."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def catalogue(self, caller: str) -> Catalogue:  # noqa: ARG002 - it does not depend on who asks
        """Return them; see ``ToolSource``."""
        return self._catalogue
