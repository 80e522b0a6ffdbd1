"""Tables: drawn with rich on a terminal, aligned columns in a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.cli.terminal import Stream
from corral.cli.visible import one_line

#: No cell is longer in a pipe: it is there to recognise something by. One that may wrap is there to be read.
_PLAIN_CELL = 80
_LONGEST_CELL = 4000


@dataclass(frozen=True, slots=True)
class Column:
    """A column."""

    title: str
    #: It gives way when the terminal is narrow.
    flexible: bool = False
    #: Its cells take several lines rather than be cut.
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and, for terminals, the names of its styles; see ``Stream.paint``."""

    text: str
    styles: tuple[str, ...] = ()


Row = Sequence[str | Cell]


def print_table(stream: Stream, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Write a table. Each cell becomes one line without control characters."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    if stream.is_terminal:
        _draw(stream, columns, cells)
    else:
        _align(stream, columns, cells)


def _align(stream: Stream, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    lines = [
        [column.title for column in columns],
        *(
            [
                one_line(cell.text, _LONGEST_CELL if column.wraps else _PLAIN_CELL) or "-"
                for column, cell in zip(columns, row, strict=True)
            ]
            for row in rows
        ),
    ]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        stream.line("  ".join(padded).rstrip())


def _draw(stream: Stream, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
            ratio=1 if column.flexible else None,
            min_width=12 if column.flexible else None,
        )
    for row in rows:
        table.add_row(
            *(Text(one_line(cell.text, _LONGEST_CELL) or "-", style=" ".join(cell.styles)) for cell in row)
        )
    console = Console(
        file=stream.text,
        width=stream.width,
        no_color=not stream.is_coloured,
        highlight=False,
        soft_wrap=False,
    )
    console.print(table)
