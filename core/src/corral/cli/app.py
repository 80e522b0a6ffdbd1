"""The command line as a whole: its commands, and what their errors become."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from corral import __version__
from corral.cli.commands.doctor import doctor
from corral.cli.commands.logs import logs
from corral.cli.commands.run import run
from corral.cli.commands.tasks import tasks_app
from corral.cli.commands.tools import tools_app
from corral.cli.commands.validate import validate
from corral.cli.commands.whoami import whoami
from corral.cli.exits import EXIT_STATUSES, BadInputError, Exit, ReaderGoneError, UnwritableError
from corral.cli.gateway import Gateway, told

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: Of this package; those that work at a gateway, too or only, and those of this machine.
_REMOTE = frozenset({"run", "tools", "tasks", "logs", "whoami"})
_COMMANDS = _REMOTE | {"validate", "doctor"}
#: Options of ``corral`` itself that take a value.
_WITH_VALUE = ("--gateway", "--api-key-file")
#: Of other packages.
_INSTALLED_REMOTE = frozenset({"audit"})
_SUMMARY = "Runs what AI agents want to run, each tool call alone in a single-use sandbox."


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"corral {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    *,
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="CORRAL_GATEWAY",
            help="Run tasks at this gateway, not on this machine. Its API key comes from CORRAL_API_KEY.",
        ),
    ] = None,
    api_key_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the gateway's API key from a file.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if gateway:
        _refuse_of_this_machine(context)
        context.obj = Gateway(gateway, api_key_file)
    elif api_key_file is not None:
        raise BadInputError("--api-key-file goes with --gateway URL")


def _refuse_of_this_machine(context: typer.Context) -> None:
    """Refuse ``--gateway`` before a command that would pass it over."""
    command = context.invoked_subcommand
    source = context.get_parameter_source("gateway")
    if source is not None and source.name == "COMMANDLINE" and command not in _REMOTE | _INSTALLED_REMOTE:
        raise BadInputError(f"corral {command} is about this machine; --gateway means nothing to it")


def build_app() -> typer.Typer:
    """Return the application. Boxes and colours in its help are for terminals."""
    is_seen = sys.stdout.isatty() and sys.stderr.isatty()
    app = typer.Typer(
        name="corral",
        help=_SUMMARY,
        epilog=EXIT_STATUSES,
        no_args_is_help=True,
        rich_markup_mode="rich" if is_seen else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("run", epilog=EXIT_STATUSES)(run)
    app.add_typer(tools_app, name="tools")
    app.add_typer(tasks_app, name="tasks")
    app.command("logs", epilog=EXIT_STATUSES)(logs)
    app.command("whoami", epilog=EXIT_STATUSES)(whoami)
    app.command("validate", epilog=EXIT_STATUSES)(validate)
    app.command("doctor", epilog=EXIT_STATUSES)(doctor)
    if not _names_own_command(sys.argv[1:]):
        _add_installed_commands(app)
    return app


def _names_own_command(arguments: Sequence[str]) -> bool:
    """Whether no other package has to be asked for its commands: finding them costs every start some milliseconds."""
    words = iter(arguments)
    first = None
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            first = word
            break
    return first in _COMMANDS or (first is None and bool({"-V", "--version"} & set(arguments)))


def _add_installed_commands(app: typer.Typer) -> None:
    """Add what other packages of Corral bring, such as the gateway's ``serve``."""
    from importlib.metadata import entry_points

    from corral.cli.commands.audit import audit_app, audit_commands

    named = any(word == "--gateway" or word.startswith("--gateway=") for word in sys.argv[1:])
    app.add_typer(audit_app, name="audit")
    for entry in sorted(entry_points(group="corral.commands"), key=lambda entry: entry.name):
        if entry.name == "audit" and named:
            continue  # all that is theirs is about the gateway here
        found = entry.load()
        if not isinstance(found, typer.Typer):
            app.command(entry.name, epilog=EXIT_STATUSES)(found)
            continue
        if entry.name == "audit" and os.environ.get("CORRAL_GATEWAY"):
            for name, command in audit_commands.items():
                found.command(name)(command)
        app.add_typer(found, name=entry.name)


def start() -> int:
    """Run the command that the arguments name; return the exit status.

    No mistake of a user's ends in a traceback.
    """
    try:
        build_app()(prog_name="corral")
    except SystemExit as end:  # how typer ends every command
        return end.code if isinstance(end.code, int) else Exit.FAILED
    except Exception as error:
        status = _tell(error)
        if status is None:
            raise
        return status
    return Exit.SUCCEEDED


def _tell(error: Exception) -> Exit | None:
    """Say what went wrong and return the exit status; None where it is a fault of ours."""
    # Imported only now: errors are rare, and what they need costs every start.
    from corral.cli.terminal import Terminal, forget_streams
    from corral.client.gateway.errors import GatewayError
    from corral.sandbox.errors import IsolationUnavailableError

    remedy = None
    problems: Sequence[str]
    match error:
        case BadInputError():
            status, problems, remedy = Exit.BAD_INPUT, error.problems, error.remedy
        case GatewayError():
            status, problems, remedy = told(error)
        case IsolationUnavailableError():
            status, problems, remedy = Exit.NO_ISOLATION, (f"nothing ran: {error.missing}",), error.remedy
        case ReaderGoneError():
            status, problems = Exit.READER_GONE, ()
        case UnwritableError():
            status, problems = Exit.FAILED, (str(error),)
        case OSError(errno=number) if number in _CANNOT_WRITE:  # from typer's own writing, of help for one
            status, problems = Exit.FAILED, (f"stdout: {error.strerror}",)
        case _:
            return None
    terminal = Terminal()
    with suppress(ReaderGoneError, UnwritableError):  # nobody to tell it to
        for problem in problems:
            terminal.error(problem)
        if remedy is not None:
            terminal.remedy(remedy)
    if status in (Exit.READER_GONE, Exit.FAILED):
        forget_streams()
    return status
