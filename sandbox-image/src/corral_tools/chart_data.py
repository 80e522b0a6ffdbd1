"""The data of a chart: series of values, from the arguments or from a CSV file, checked and bounded."""

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corral_runner.interface import ToolContext

#: More than a picture of this size can show, and what matplotlib draws in a second or two.
MAX_POINTS = 100_000
MAX_CSV_BYTES = 32 << 20
_NOT_A_NUMBER = float("nan")


class Series:
    """One line, set of bars, cloud of points, distribution, or pie."""

    __slots__ = ("name", "x", "y")

    def __init__(self, name: str, x: "Sequence[float] | Sequence[str] | None", y: "Sequence[float]") -> None:
        self.name = name
        #: Places, or the names of places in their order; None: 0, 1, 2 …
        self.x = x
        #: Not-a-number where a value is missing.
        self.y = y

    @property
    def categories(self) -> "Sequence[str] | None":
        """The names of the places, where they have names."""
        if self.x and isinstance(self.x[0], str):
            return [str(name) for name in self.x]
        return None


def from_arguments(given: "Sequence[Mapping[str, Any]]", kind: str) -> list[Series]:
    """Series as the ``series`` argument gives them.

    Raises:
        InvalidArgument: numbers of values that do not fit each other, or too many; names mixed with numbers.
    """
    series = []
    for index, one in enumerate(given):
        field = f"series[{index}]"
        y = [_NOT_A_NUMBER if value is None else float(value) for value in one["y"]]
        x: list[float] | list[str] | None = one.get("x")
        if x is not None and len(x) != len(y):
            raise InvalidArgument(f"{field}.x", f"has {len(x)} values, and y has {len(y)}")
        if x is not None and len({isinstance(value, str) for value in x}) > 1:
            raise InvalidArgument(f"{field}.x", "mixes names and numbers")
        series.append(Series(one.get("name", ""), x, y))
    return _checked(series, kind, "series")


def from_csv(given: "Mapping[str, Any]", kind: str, context: "ToolContext") -> list[Series]:
    """A series for each column named in ``y``, over the one named in ``x``; the first line names the columns.

    Raises:
        InvalidArgument: the file has no such column.
        ToolFailure: a value in a ``y`` column is no number, or the file cannot be read.
    """
    import csv
    import io

    text = files.read_text(given["path"], context, limit_bytes=MAX_CSV_BYTES, field="csv.path")
    try:
        rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        columns = next(rows, [])
        table = [row for row in rows if row]
    except csv.Error as error:
        raise ToolFailure(f"{given['path']!r} is not CSV: {error}", path=given["path"]) from error
    x_name: str | None = given.get("x")
    x = None if x_name is None else _column(table, columns, x_name, "csv.x")
    places: list[float] | list[str] | None = x
    if x is not None and all(map(_is_number, x)):
        places = [float(value) for value in x]
    series = [
        Series(name, places, _numbers(_column(table, columns, name, f"csv.y[{index}]"), name))
        for index, name in enumerate(given["y"])
    ]
    return _checked(series, kind, "csv")


def _checked(series: list[Series], kind: str, field: str) -> list[Series]:
    points = sum(len(one.y) for one in series)
    if points == 0:
        raise InvalidArgument(field, "has no values to draw")
    if points > MAX_POINTS:
        raise InvalidArgument(field, f"has {points} values; at most {MAX_POINTS} are drawn")
    if len({one.categories is None for one in series}) > 1:
        raise InvalidArgument(field, "mixes series over names with series over numbers")
    if kind == "pie":
        if len(series) > 1:
            raise InvalidArgument(field, "has more than one series; a pie shows one")
        if not all(value >= 0 for value in series[0].y) or not sum(series[0].y) > 0:
            raise InvalidArgument(field, "has negative or missing values; the slices of a pie are 0 or more")
    return series


def _column(table: list[list[str]], columns: list[str], name: str, field: str) -> list[str]:
    if name not in columns:
        known = ", ".join(repr(column) for column in columns[:50]) or "none"
        raise InvalidArgument(field, f"the file has no column {name!r}; its columns are {known}")
    index = columns.index(name)
    return [row[index].strip() if index < len(row) else "" for row in table]


def _numbers(values: list[str], name: str) -> list[float]:
    for line, value in enumerate(values, start=2):
        if value and not _is_number(value):
            raise ToolFailure(
                f"column {name!r} has no number in data line {line}: {value[:100]!r}", column=name
            )
    return [float(value) if value else _NOT_A_NUMBER for value in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
