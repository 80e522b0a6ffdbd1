"""The exit statuses of ``corral``, and the errors that lead to them."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.api import Problem


class Exit(IntEnum):
    """What the exit status says."""

    SUCCEEDED = 0
    """Every task succeeded; whatever else was asked is done."""
    FAILED = 1
    """A task failed, or a file that it left could not be written."""
    BAD_INPUT = 2
    """The command line or a manifest is wrong; nothing ran."""
    NO_ISOLATION = 3
    """This machine cannot isolate, so nothing ran."""
    NO_GATEWAY = 4
    """The gateway is not there, or did not let the request in."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT, as shells count)."""
    READER_GONE = 141
    """Whoever read the output went away (128 + SIGPIPE)."""

    @classmethod
    def after_signal(cls, number: int) -> int:
        """Return the status of a process that a signal ended, as shells count."""
        return 128 + number


#: For the end of ``--help``.
EXIT_STATUSES = (
    "Exit status: 0 every task succeeded, 1 a task failed, 2 bad input (nothing ran), "
    "3 this machine cannot isolate (nothing ran), 4 the gateway is not there or does not let you in, 130 interrupted."
)


class BadInputError(Exception):
    """The command line or a manifest is wrong. Nothing ran.

    Attributes:
        problems: one line each.
        remedy: what to do about it, in one sentence.
        details: the same problems with their places, where they are a manifest's.
    """

    def __init__(self, problems: "str | Sequence[str | Problem]", remedy: str | None = None) -> None:
        given = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems = tuple(str(problem) for problem in given)
        self.details: tuple[Problem, ...] = tuple(
            problem for problem in given if not isinstance(problem, str)
        )
        self.remedy = remedy
        super().__init__("\n".join(self.problems))


class ReaderGoneError(Exception):
    """Standard output or standard error was closed at its other end."""


class UnwritableError(Exception):
    """Standard output or standard error cannot be written, as on a full disk; the message says why."""
