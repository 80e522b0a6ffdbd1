"""The ``corral`` command."""

import os
import sys


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit status (``exits.Exit``)."""
    try:
        # Parsing arguments costs 50 ms of imports; an interrupt may come as early as that.
        from corral.cli.app import start

        status = start()
    except KeyboardInterrupt:
        status = 130
    _leave(status)


def _leave(status: int) -> None:
    """End the process without taking apart what the kernel frees anyway: that is a seventh of a short run."""
    import atexit

    # What the interpreter would have done, up to the taking apart: coverage, for one, writes its data here.
    atexit._run_exitfuncs()  # noqa: SLF001 - the interpreter calls it so, and offers no other way
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 141  # whoever read it has gone
    os._exit(status)
