"""Registered tools: what the gateway asks of whatever keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from corral.api import Tool
from corral_gateway.identity.caller import Caller

#: Registered tools, over all callers.
MOST_TOOLS = 1000


@dataclass(frozen=True, slots=True)
class ToolBounds:
    """How much is kept."""

    #: Tools of one caller: those that they were the last to register or replace.
    of_a_caller: int
    #: Versions of a tool; see ``tools.pruning``.
    versions: int


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


class ToolManagedElsewhereError(Exception):
    """Somebody else than the gateway made this tool. Nothing was changed."""

    def __init__(self, name: str, manager: str) -> None:
        self.name = name
        #: What made it, as far as it says so, such as Helm.
        self.manager = manager
        super().__init__(f"{manager} manages {name}")


class ToolChangedError(Exception):
    """The tool is another than the caller, or the gateway, had read. Nothing was changed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} was changed meanwhile")


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
    """Keeps tools that callers register, for all callers that share it. What it returned is used from then on."""

    async def create(self, tool: Tool, caller: Caller) -> Tool:
        """Register a tool, and return it as it is listed.

        Raises:
            ToolTakenError: its name is taken.
            TooManyToolsError: there is no room for one more, or not for this caller.
            TooManyVersionsError: too many versions of it have to be kept.
            ProblemError: whatever keeps it does not take it.
        """
        ...

    async def put(self, tool: Tool, caller: Caller) -> tuple[Tool, bool]:
        """Register a tool, or replace the one of its name. Returns it as it is listed, and whether it is new.

        Raises:
            ToolTakenError: that one ships with Corral.
            ToolManagedElsewhereError: that one is not this caller's to replace.
            ToolChangedError: it is not in the version that the new one names.
            TooManyToolsError: there is no room for one more, or not for this caller.
            TooManyVersionsError: too many versions of it have to be kept.
            ProblemError: whatever keeps it does not take it.
        """
        ...

    async def delete(self, name: str, caller: Caller) -> bool:
        """Take a tool out. Returns whether there was one.

        Raises:
            ToolTakenError: it ships with Corral.
            ToolManagedElsewhereError: it is not this caller's to take out.
            ProblemError: whatever keeps it does not let it go.
        """
        ...

    async def history(self, name: str, caller: Caller) -> Sequence[ToolChange]:
        """Return what was done to a tool of a caller's, newest first, at most the last hundred changes."""
        ...
