"""Whether arguments fit: of tools that ship with Corral found out here, of others' in a process of its own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from corral.api import Problem, Tool
from corral.catalogue import normalise, validate_arguments
from corral.catalogue.checker import ArgumentChecker


class Checks:
    """Finds out; see docs/decisions/0012. The process starts with the first call of a registered tool."""

    def __init__(self, trusted: Collection[str]) -> None:
        """Prepare.

        Args:
            trusted: names of the tools whose schemas are our own: no regular expression of theirs backtracks, and
                arguments have no more than a spec may.
        """
        self._trusted = frozenset(map(normalise, trusted))
        self._checker = ArgumentChecker()

    async def start(self) -> None:
        """Begin; nothing is started before it is needed."""

    async def close(self) -> None:
        """End the process."""
        await self._checker.close()

    async def check(self, tool: Tool, arguments: Mapping[str, Any]) -> Sequence[Problem]:
        """Return what is wrong with the arguments of a call.

        Raises:
            CheckerUnavailableError: nobody can say.
        """
        if normalise(tool.name) in self._trusted:
            return validate_arguments(tool, arguments)
        return await self._checker.check(tool, arguments)
