"""The command line as a whole: its commands, and what their errors become."""

import errno
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from corral import __version__
from corral.cli.commands.doctor import doctor
from corral.cli.commands.run import run
from corral.cli.commands.tools import tools_app
from corral.cli.commands.validate import validate
from corral.cli.exits import EXIT_STATUSES, BadInputError, Exit, ReaderGoneError, UnwritableError

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_COMMANDS = frozenset({"run", "tools", "validate", "doctor"})
_SUMMARY = "Runs what AI agents want to run, each tool call alone in a single-use sandbox."


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"corral {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[  # its callback acts
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


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
    app.command("validate", epilog=EXIT_STATUSES)(validate)
    app.command("doctor", epilog=EXIT_STATUSES)(doctor)
    if not _names_own_command(sys.argv[1:]):
        _add_installed_commands(app)
    return app


def _names_own_command(arguments: Sequence[str]) -> bool:
    """Whether no other package has to be asked for its commands: finding them costs every start some milliseconds."""
    first = next((word for word in arguments if not word.startswith("-")), None)
    return first in _COMMANDS or (first is None and bool({"-V", "--version"} & set(arguments)))


def _add_installed_commands(app: typer.Typer) -> None:
    """Add what other packages of Corral bring, such as the gateway's ``serve``."""
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group="corral.commands"), key=lambda entry: entry.name):
        found = entry.load()
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=entry.name)
        else:
            app.command(entry.name, epilog=EXIT_STATUSES)(found)


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
    from corral.sandbox.errors import IsolationUnavailableError

    remedy = None
    match error:
        case BadInputError():
            status, problems, remedy = Exit.BAD_INPUT, error.problems, error.remedy
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
