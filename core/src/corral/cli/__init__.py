"""The ``corral`` command."""

import sys


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit status (``exits.Exit``)."""
    try:
        # Parsing arguments costs 50 ms of imports; an interrupt may come as early as that.
        from corral.cli.app import start

        status = start()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
