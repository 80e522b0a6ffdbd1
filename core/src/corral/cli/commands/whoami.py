"""``corral whoami``."""

import typer

from corral.cli.formats import Format
from corral.cli.gateway import needed_gateway
from corral.cli.options import Output


def whoami(context: typer.Context, *, output: Output = Format.TABLE) -> None:
    """Tell who the gateway takes you for, and what you may do there."""
    from corral.cli.remote_identity import show_identity
    from corral.cli.terminal import Terminal

    gateway = needed_gateway(context)
    with gateway.client() as client:
        identity = client.whoami()
    show_identity(identity, gateway.url, Terminal(), output)
