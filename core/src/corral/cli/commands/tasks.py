"""``corral tasks``: those at a gateway."""

from typing import Annotated, Any

import typer

from corral.cli.commands.groups import DefaultCommand
from corral.cli.exits import EXIT_STATUSES
from corral.cli.formats import Format
from corral.cli.gateway import needed_gateway
from corral.cli.options import Output

_REFERENCE = "A task's name or id, or the beginning of its id."

tasks_app = typer.Typer(
    cls=DefaultCommand.named("list"),
    help="List your tasks at the gateway: corral tasks. Show one: corral tasks get TASK. End some: corral tasks "
    "cancel TASK….",
    epilog=EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@tasks_app.command("list")
def list_(
    context: typer.Context,
    *,
    phase: Annotated[
        str | None,
        typer.Option(metavar="PHASE", help="Only Pending, Running, Succeeded, Failed or Cancelled ones."),
    ] = None,
    tool: Annotated[str | None, typer.Option(metavar="NAME", help="Only tasks of this tool.")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="Only tasks that ended so, such as OutOfMemory.")
    ] = None,
    most: Annotated[int, typer.Option("--max", min=1, metavar="N", help="At most so many.")] = 20,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the list anew until Ctrl-C.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List your tasks, newest first. The word list may be left out."""
    from corral.cli.remote_tasks import list_tasks, watch_tasks
    from corral.cli.terminal import Terminal

    wanted: dict[str, Any] = {"phase": phase, "tool": tool, "reason": reason, "most": most}
    with needed_gateway(context).client() as client:
        if watch:
            watch_tasks(client, wanted, Terminal(), output)
        else:
            list_tasks(client, wanted, Terminal(), output)


@tasks_app.command("get")
def get(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=_REFERENCE)],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end first.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show a task: how it stands, what it printed, its result."""
    from corral.cli.remote_tasks import find_task, show_task
    from corral.cli.terminal import Terminal

    with needed_gateway(context).client() as client:
        found = find_task(client, task)
        if wait:
            found = client.wait(found.metadata.uid or "")
    show_task(found, Terminal(), output)


@tasks_app.command("remove-files")
def remove_files(
    context: typer.Context,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK…", help=_REFERENCE)],
) -> None:
    """Remove what the artifact store keeps of ended tasks, for its bytes: files, and what is too large for a status."""
    from corral.cli.remote_tasks import find_task

    with needed_gateway(context).client() as client:
        for task in tasks:
            client.remove_files(find_task(client, task).metadata.uid or "")


@tasks_app.command("cancel")
def cancel(
    context: typer.Context,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK…", help=_REFERENCE)],
) -> None:
    """End tasks, and wait until they have. They say Cancelled, and keep the output so far."""
    from corral.cli.remote_tasks import cancel_tasks
    from corral.cli.terminal import Terminal

    with needed_gateway(context).client() as client:
        cancel_tasks(client, tasks, Terminal())
