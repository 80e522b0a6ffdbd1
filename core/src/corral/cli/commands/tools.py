"""``corral tools`` and ``corral tools show``."""

from typing import Annotated, Any

import typer

from corral.cli.commands.groups import DefaultCommand
from corral.cli.completion import complete_tool
from corral.cli.exits import EXIT_STATUSES
from corral.cli.formats import Format
from corral.cli.gateway import gateway_of, refuse_local
from corral.cli.options import Output, ToolDirectories

_SEARCH = "search"
_REGISTER = "it has tools of its own"


tools_app = typer.Typer(
    cls=DefaultCommand.named(_SEARCH),
    help="List the tools, or those that fit a query: corral tools [QUERY]. Show one: corral tools show NAME.",
    epilog=EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@tools_app.command(_SEARCH)
def search(
    context: typer.Context,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY]", help="Words to look for in name, tags, category and description."),
    ] = None,
    *,
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only tools of this category. Repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only tools with this tag. Repeatable.")
    ] = None,
    exclude_dangerous: Annotated[
        bool,
        typer.Option("--exclude-dangerous", help="Leave out tools that can do harm that cannot be undone."),
    ] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, metavar="N", help="At most so many.")] = None,
    tools: ToolDirectories = None,
    output: Output = Format.TABLE,
) -> None:
    """List the tools, or those that fit the query, best first. The word search may be left out."""
    from corral.cli.listing import list_tools
    from corral.cli.manifests import build_catalogue
    from corral.cli.terminal import Terminal

    gateway = gateway_of(context)
    options: dict[str, Any] = {"exclude_dangerous": exclude_dangerous, "max_results": most}
    words, categories, tags = " ".join(query or ()), category or (), tag or ()
    if gateway is None:
        found = build_catalogue(tools or ()).discover(words, categories, tags, **options)
    else:
        refuse_local({"--tools": (tools, _REGISTER)})
        with gateway.client() as client:
            found = client.tools(words, categories, tags, **options)
    list_tools(found, Terminal(), output)


@tools_app.command("show")
def show(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The tool's name.", autocompletion=complete_tool)
    ],
    *,
    tools: ToolDirectories = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what a tool takes and gives, what it needs, and calls of it to paste."""
    from corral.catalogue import ToolNotFoundError
    from corral.cli.exits import BadInputError
    from corral.cli.listing import show_tool
    from corral.cli.manifests import build_catalogue
    from corral.cli.terminal import Terminal

    gateway = gateway_of(context)
    if gateway is not None:
        refuse_local({"--tools": (tools, _REGISTER)})
        with gateway.client() as client:
            show_tool(client.tool(name), Terminal(), output)
        return
    try:
        tool = build_catalogue(tools or ()).get(name)
    except ToolNotFoundError as error:
        raise BadInputError(str(error), "corral tools lists what there is") from None
    show_tool(tool, Terminal(), output)
