"""What can go wrong with a catalogue."""

from collections.abc import Collection

from corral.api import CorralError, Reason, did_you_mean


class ToolNotFoundError(CorralError, LookupError):
    """No tool of this name is registered. ``suggestion`` is the known name most like it, if any is."""

    reason = Reason.TOOL_NOT_FOUND

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name = name
        self.suggestion = did_you_mean(name, known)
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        super().__init__(f'there is no tool "{name[:63]}"{hint}')


class ToolExistsError(CorralError, ValueError):
    """A tool of this name is registered already; nothing was changed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f'a tool "{name}" is registered already')
