"""``corral doctor``."""

from typing import Annotated

import typer

from corral.cli.formats import Format
from corral.cli.options import Backend, Output


def doctor(
    *,
    brief: Annotated[bool, typer.Option("--brief", help="One or two lines.")] = False,
    backend: Backend = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what this machine isolates and what is missing, with the remedy for each.

    A sandbox is really made. Exits with 0 if tasks can run on the chosen backend, 3 if not.
    """
    from corral.cli.diagnosis import show_report
    from corral.cli.terminal import Terminal

    docker = None
    if backend == "docker":
        from corral.sandbox.docker.probe import probe_docker

        report = probe_docker()
    else:
        from corral.sandbox.probe import probe

        report = probe()
        if not brief:
            from corral.sandbox.docker.probe import availability

            docker = availability()
    raise typer.Exit(show_report(report, Terminal(), output, brief=brief, docker=docker))
