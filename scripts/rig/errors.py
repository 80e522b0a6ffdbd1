"""What the rig raises: always with a sentence that says what to do."""

from __future__ import annotations


class RigError(Exception):
    """The rig cannot go on.

    Attributes:
        remedy: what the reader can do about it, as a sentence; empty if only the message helps.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{super().__str__()}\n  {self.remedy}" if self.remedy else super().__str__()


class CommandError(RigError):
    """A program that the rig started failed or did not end in time.

    Attributes:
        command: the program and its arguments.
        output: the end of what it printed, both streams.
    """

    def __init__(self, command: tuple[str, ...], why: str, output: str, remedy: str = "") -> None:
        tail = "\n".join("  | " + line for line in output.strip().splitlines()[-25:])
        super().__init__(f"`{_abridged(command)}` {why}" + (f"\n{tail}" if tail else ""), remedy)
        self.command = command
        self.output = output


def _abridged(command: tuple[str, ...]) -> str:
    text = " ".join(command)
    return text if len(text) <= 200 else text[:200] + " …"
