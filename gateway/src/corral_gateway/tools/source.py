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
