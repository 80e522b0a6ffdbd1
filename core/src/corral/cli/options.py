"""The options that several commands have."""

from typing import Annotated, Literal, TypeAlias

import typer

from corral.cli.formats import Format

Output: TypeAlias = Annotated[
    Format, typer.Option("--output", "-o", help="For people (table) or for programs (json, yaml).")
]
ToolDirectories: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        metavar="DIR",
        help="A directory or file of Tool manifests to add to the built-in tools. Repeatable.",
    ),
]
Backend: TypeAlias = Annotated[
    Literal["embedded", "docker"] | None,  # as ``corral.client.backends``, which costs every start an import
    typer.Option(
        "--backend",
        envvar="CORRAL_BACKEND",
        help="Where sandboxes come from; without it the embedded backend, never one in place of another.",
    ),
]
