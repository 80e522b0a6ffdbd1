"""The ``corral`` command."""

import os
import sys


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit status (``exits.Exit``)."""
    _open_streams()
    try:
        # Parsing arguments costs 50 ms of imports; an interrupt may come as early as that.
        from corral.cli.app import start

        status = start()
    except KeyboardInterrupt:
        status = 130
    _leave(status)


def _open_streams() -> None:
    """Give the process the three streams that it may have been started without, as with ``>&-``."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It takes the lowest free number, which is the missing one: no socket of ours ends up there.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _leave(status: int) -> None:
    """End the process without taking apart what the kernel frees anyway: that is a seventh of a short run."""
    import atexit

    # What the interpreter would have done, up to the taking apart: coverage, for one, writes its data here.
    atexit._run_exitfuncs()  # noqa: SLF001 - the interpreter calls it so, and offers no other way
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            status = status or 141  # whoever read it has gone
        except (OSError, ValueError):
            status = status or 1
    os._exit(status)
