"""``corral audit`` at a gateway. On the gateway's own machine its package has one that reads the records there."""

from collections.abc import Callable
from typing import Any

import typer

from corral.cli.audit_options import (
    Caller,
    Form,
    Kind,
    Limit,
    Reason,
    Request,
    Since,
    Task,
    Tool,
    Until,
)
from corral.cli.exits import EXIT_STATUSES
from corral.cli.formats import Format
from corral.cli.gateway import needed_gateway
from corral.cli.options import Output

audit_app = typer.Typer(
    no_args_is_help=True,
    help="List and export what a gateway has recorded. Where the gateway is installed, and none "
    "is named, that of the gateway here, which can be verified too.",
    epilog=EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def list_(
    context: typer.Context,
    *,
    caller: Caller = None,
    kind: Kind = None,
    tool: Tool = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    request: Request = None,
    task: Task = None,
    limit: Limit = 20,
    output: Output = Format.TABLE,
) -> None:
    """List records, newest first."""
    from corral.cli.audit_records import list_remote
    from corral.cli.terminal import Terminal

    wanted = _wanted(caller, kind, tool, reason, since, until, request, task)
    list_remote(needed_gateway(context), wanted, limit, Terminal(), output)


def export(
    context: typer.Context,
    *,
    caller: Caller = None,
    kind: Kind = None,
    tool: Tool = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    request: Request = None,
    task: Task = None,
    form: Form = "jsonl",
) -> None:
    """Write records to standard output, a line of JSON each, oldest first, then the signed heads."""
    from corral.cli.audit_records import export_remote
    from corral.cli.terminal import Terminal

    wanted = _wanted(caller, kind, tool, reason, since, until, request, task)
    export_remote(needed_gateway(context), wanted, form, Terminal())


def _wanted(*values: str | None) -> dict[str, Any]:
    names = ("caller", "kind", "tool", "reason", "since", "until", "request_id", "task_id")
    return dict(zip(names, values, strict=True))


#: They take the place of those of the gateway's package, where a gateway is asked.
audit_commands: dict[str, Callable[..., None]] = {"list": list_, "export": export}
for _name, _command in audit_commands.items():
    audit_app.command(_name)(_command)
