"""``corral validate``."""

from typing import Annotated

import typer

from corral.cli.formats import Format
from corral.cli.options import Output, ToolDirectories


def validate(
    *,
    sources: Annotated[
        list[str],
        typer.Option(
            "-f",
            "--filename",
            metavar="FILE|DIR|-",
            help="A manifest, a directory of them, or - for standard input; several documents a file. "
            "Repeatable.",
        ),
    ],
    tools: ToolDirectories = None,
    output: Output = Format.TABLE,
) -> None:
    """Check manifests, and the arguments of tasks against their tools. Nothing runs.

    Every problem of every file is told at once, as file:line:column: path: message.
    """
    from corral.cli.review import validate_manifests
    from corral.cli.terminal import Terminal

    raise typer.Exit(validate_manifests(tuple(sources), tuple(tools or ()), Terminal(), output))
