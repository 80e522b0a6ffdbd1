"""``corral config``."""

import os

from corral.cli.formats import Format
from corral.cli.options import Output
from corral_gateway.commands.place import read_settings


def config(*, output: Output = Format.TABLE) -> None:
    """Show every setting of the gateway, its value, and where that comes from. Values of secrets are not shown."""
    from corral.cli.documents import document
    from corral.cli.tables import Cell, Column, print_table
    from corral.cli.terminal import Terminal
    from corral_gateway.configuration import origins, read_file, unknown

    file = read_file()
    terminal = Terminal()
    found = list(origins(read_settings(), os.environ, file))
    if output is not Format.TABLE:
        rows = [{"variable": one.variable, "value": one.value, "source": one.source} for one in found]
        terminal.out.write(document(rows, output))
    else:
        columns = [
            Column("VARIABLE"),
            Column("VALUE"),
            Column("FROM"),
            Column("WHAT", flexible=True),
        ]
        print_table(
            terminal.out,
            columns,
            [
                (
                    one.variable,
                    one.value,
                    Cell(one.source, () if one.source == "default" else ("bold",)),
                    Cell(one.summary, ("dim",)),
                )
                for one in found
            ],
        )
    for variable, remedy in unknown(file):
        terminal.note(f".env: {variable}: {remedy}")
