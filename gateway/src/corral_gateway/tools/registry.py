"""Registered tools: what the gateway asks of whatever keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from corral.api import Tool

#: Registered tools, over all callers.
MOST_TOOLS = 1000


@dataclass(frozen=True, slots=True)
class ToolChange:
    """What was done to a tool once."""

    #: Grows from change to change, of whichever tool.
    number: int
    caller: str
    at: datetime
    #: The tool from then on; None: it was deleted.
    tool: Tool | None


class ToolTakenError(Exception):
    """There is a tool of this name already. Nothing was changed."""

    def __init__(self, name: str, *, builtin: bool) -> None:
        self.name = name
        #: It ships with Corral, and nobody replaces it.
        self.builtin = builtin
        super().__init__(f"there is a tool {name} already")


class TooManyToolsError(Exception):
    """As many are registered as may be. Nothing was changed."""

    def __init__(self, limit: int, *, own: bool) -> None:
        self.limit = limit
        #: It is the caller's own tools that are too many; others may still register some.
        self.own = own
        super().__init__(f"{limit} tools are registered")


class TooManyVersionsError(Exception):
    """A tool was changed too often while tasks that name it have not ended. Nothing was changed."""

    def __init__(self, name: str, versions: int) -> None:
        self.name = name
        self.versions = versions
        super().__init__(f"{versions} versions of {name} are kept")


class ToolRegistry(Protocol):
    """Keeps tools that callers register, for all callers that share it."""

    async def create(self, tool: Tool, caller: str) -> None:
        """Register a tool.

        Raises:
            ToolTakenError: its name is taken.
            TooManyToolsError: there is no room for one more, or not for this caller.
            TooManyVersionsError: too many versions of it have to be kept.
        """
        ...

    async def put(self, tool: Tool, caller: str) -> bool:
        """Register a tool, or replace the one of its name. Returns whether it is new.

        Raises:
            ToolTakenError: that one ships with Corral.
            TooManyToolsError: there is no room for one more, or not for this caller.
            TooManyVersionsError: too many versions of it have to be kept.
        """
        ...

    async def delete(self, name: str, caller: str) -> bool:
        """Take a tool out. Returns whether there was one.

        Raises:
            ToolTakenError: it ships with Corral.
        """
        ...

    async def history(self, name: str) -> Sequence[ToolChange]:
        """Return what was done to a tool, newest first, at most the last hundred changes."""
        ...
