"""Tables: drawn with rich on a terminal, aligned columns in a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from corral.cli.terminal import Stream
from corral.cli.visible import one_line

if TYPE_CHECKING:
    from rich.text import Text

#: No cell is longer in a pipe: it is there to recognise something by. One that may wrap is there to be read.
_PLAIN_CELL = 80
_LONGEST_CELL = 4000
#: On a terminal.
_WIDEST_FIXED = 40
_NARROWEST_FLEXIBLE = 12
_GAP = 2


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [
        [Text(one_line(cell.text, _LONGEST_CELL) or "-", style=" ".join(cell.styles)) for cell in row]
        for row in rows
    ]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    widths = _widths(stream.width, columns, texts)
    for column, width in zip(columns, widths, strict=True):
        overflow: Literal["fold", "ellipsis"] = "fold" if column.wraps else "ellipsis"
        table.add_column(column.title, no_wrap=not column.wraps, overflow=overflow, width=width)
    for row in texts:
        table.add_row(*row)
    # Without colours also without bold: rich then writes no escape sequence at all.
    console = Console(
        file=stream.text, width=stream.width, force_terminal=stream.is_coloured, highlight=False
    )
    console.print(table)


def _widths(available: int, columns: Sequence[Column], rows: "Sequence[Sequence[Text]]") -> list[int]:
    """Give each column what it needs, and the flexible ones what is left of that."""
    needed = [
        max([len(column.title), *(row[index].cell_len for row in rows)])
        for index, column in enumerate(columns)
    ]
    fixed = [
        0 if column.flexible else min(width, _WIDEST_FIXED)
        for column, width in zip(columns, needed, strict=True)
    ]
    left = max(available - sum(fixed) - _GAP * (len(columns) - 1), _NARROWEST_FLEXIBLE)
    return [width or min(need, left) for width, need in zip(fixed, needed, strict=True)]
