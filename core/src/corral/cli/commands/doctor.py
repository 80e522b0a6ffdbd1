"""``corral doctor``."""

from typing import Annotated

import typer

from corral.cli.formats import Format
from corral.cli.options import Output


def doctor(
    *,
    brief: Annotated[bool, typer.Option("--brief", help="One or two lines.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Tell what this machine isolates and what is missing, with the remedy for each.

    A sandbox is really made. Exits with 0 if tasks can run here, 3 if not.
    """
    from corral.cli.diagnosis import show_report
    from corral.cli.terminal import Terminal
    from corral.sandbox.probe import probe

    raise typer.Exit(show_report(probe(), Terminal(), output, brief=brief))
