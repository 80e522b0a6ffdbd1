"""``corral logs``."""

from typing import Annotated

import typer

from corral.cli.gateway import needed_gateway


def logs(
    context: typer.Context,
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task's name or id, or the beginning of its id.")
    ],
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task ends, and exit as it does.")
    ] = False,
) -> None:
    """Print what a task at the gateway has printed: its standard output to this one's, its errors to this one's.

    With -f the exit status is that of the task: 0 if it succeeded, 1 if not. Ctrl-C ends the following, not the task.
    """
    from corral.cli.remote_logs import print_logs
    from corral.cli.terminal import Terminal

    with needed_gateway(context).client() as client:
        raise typer.Exit(print_logs(client, task, Terminal(), follow=follow))
