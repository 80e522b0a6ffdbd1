"""``corral tools`` and ``corral tools show``."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from corral.cli.completion import complete_tool
from corral.cli.exits import EXIT_STATUSES
from corral.cli.formats import Format
from corral.cli.options import Output, ToolDirectories

_SEARCH = "search"


class _SearchByDefault(TyperGroup):
    """``corral tools QUERY`` is ``corral tools search QUERY``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {*self.commands, *ctx.help_option_names}
        # The shell asks with nothing at all, and is offered the commands.
        if (args and args[0] not in names) or not (args or ctx.resilient_parsing):
            args = [_SEARCH, *args]
        return super().parse_args(ctx, args)


tools_app = typer.Typer(
    cls=_SearchByDefault,
    help="List the tools, or those that fit a query: corral tools [QUERY]. Show one: corral tools show NAME.",
    epilog=EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@tools_app.command(_SEARCH)
def search(
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

    found = build_catalogue(tools or ()).discover(
        " ".join(query or ()),
        category or (),
        tag or (),
        exclude_dangerous=exclude_dangerous,
        max_results=most,
    )
    list_tools(found, Terminal(), output)


@tools_app.command("show")
def show(
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

    try:
        tool = build_catalogue(tools or ()).get(name)
    except ToolNotFoundError as error:
        raise BadInputError(str(error), "corral tools lists what there is") from None
    show_tool(tool, Terminal(), output)
