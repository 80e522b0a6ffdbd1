"""``corral run``."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.completion import complete_words
from corral.cli.formats import Format
from corral.cli.gateway import Gateway, gateway_of, refuse_local
from corral.cli.options import Backend, Output, ToolDirectories

if TYPE_CHECKING:
    from corral.api import Tool
    from corral.cli.request import RunOptions

#: More at once than cores does not end sooner; fewer on a large machine leaves memory to others.
_PARALLEL = min(4, os.cpu_count() or 1)


def run(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOOL KEY=VALUE",
            help="A tool and its arguments: key=value (read as the tool's schema says), key:=JSON, "
            "key=@PATH (the text of a file), key=- (standard input).",
            autocompletion=complete_words,
        ),
    ] = None,
    *,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--filename",
            metavar="FILE|DIR|-",
            help="Run the tasks of a manifest, a directory of them, or standard input; several documents "
            "a file. Tools among them can be used. Repeatable.",
        ),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="How many tasks run at the same time.")
    ] = _PARALLEL,
    limits: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=VALUE", help="Such as memory=256Mi or timeout=5s. Repeatable."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An environment variable of the tool. Repeatable."),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="PATH[=DEST]", help="Put a file into the workspace. Repeatable."),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(metavar="DIR", help="Work in this directory, not in a fresh one.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The tool cannot write to --workspace.")
    ] = False,
    output_files: Annotated[
        list[str] | None,
        typer.Option(
            "--output-file",
            metavar="PATTERN",
            help="Bring back these workspace files, such as 'out/*.csv'. Repeatable.",
        ),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Where files that come back are written; many tasks get a directory each."
        ),
    ] = None,
    tools: ToolDirectories = None,
    backend: Backend = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a tool, or the tasks of manifests, each call alone in a single-use sandbox.

    What a single task prints is shown as it comes, then its result; many tasks end in a table. With -o json
    or yaml the tasks are printed with their status. With corral --gateway URL run the same happens there.

    Ctrl-C cancels in good order, a second one ends everything at once.

    \b
    corral run calculator expression='6 * 7'
    corral run python code=@script.py --limit memory=256Mi --workspace .
    corral run -f tasks/ --parallel 8 -o json
    """  # noqa: D301 - the control character keeps the lines after it as they are
    from functools import partial

    from corral.cli.clients import OpenClient, at_gateway, on_this_machine
    from corral.cli.request import RunOptions, read_request
    from corral.cli.session import run_request
    from corral.cli.terminal import Terminal

    options = RunOptions(
        words=tuple(words or ()),
        sources=tuple(sources or ()),
        limits=tuple(limits or ()),
        env=tuple(env or ()),
        files=tuple(files or ()),
        workspace=workspace,
        read_only=read_only,
        output_files=tuple(output_files or ()),
        output_dir=output_dir,
        tools=tuple(tools or ()),
    )
    gateway = gateway_of(context)
    if gateway is not None:
        _refuse_local(context, options)
    request = read_request(
        options,
        shows_files=output is not Format.TABLE,
        fetch_tool=None if gateway is None else partial(_fetch_tool, gateway),
    )
    open_client: OpenClient
    if gateway is None:
        open_client = partial(on_this_machine, request.catalogue, backend)
    else:
        is_one = len(request.tasks) == 1
        open_client = partial(at_gateway, gateway, is_one=is_one, uploads=request.uploads)
    raise typer.Exit(
        run_request(
            request,
            Terminal(),
            open_client,
            style=output,
            parallel=parallel,
            output_dir=output_dir,
        )
    )


def _refuse_local(context: typer.Context, options: "RunOptions") -> None:
    source = context.get_parameter_source("backend")
    asked = source is not None and source.name == "COMMANDLINE"
    refuse_local(
        {
            "--workspace": (options.workspace, "the directory is on this machine; --file sends files"),
            "--tools": (options.tools, "it has tools of its own, which corral tools lists"),
            "--backend": (asked, "where it makes sandboxes is its own affair"),
        }
    )


def _fetch_tool(gateway: Gateway, name: str) -> "Tool":
    with gateway.client() as client:
        return client.tool(name)
