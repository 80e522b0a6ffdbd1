"""Draw a chart (line, bar, scatter, histogram, pie) with matplotlib and write it as a PNG."""

import os

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import chart, chart_data, files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The data are given as ``series``, or named as columns of a CSV file (``csv``)."""
    path: str = arguments["path"]
    absolute = paths.resolve(path, context)
    if not absolute.lower().endswith(".png"):
        raise InvalidArgument("path", "does not end with .png, the format this tool writes")
    if (arguments.get("series") is None) == (arguments.get("csv") is None):
        raise InvalidArgument("series", "give either 'series' (the data) or 'csv' (a file and its columns)")
    if arguments.get("csv") is None:
        series = chart_data.from_arguments(arguments["series"], arguments["kind"])
    else:
        series = chart_data.from_csv(arguments["csv"], arguments["kind"], context)
    width, height = arguments.get("width", 800), arguments.get("height", 500)
    image, warnings = chart.draw(
        arguments["kind"],
        series,
        title=arguments.get("title", ""),
        labels=(arguments.get("x_label", ""), arguments.get("y_label", "")),
        size=(width, height),
        bins=arguments.get("bins", 10),
    )
    files.make_parents(absolute, path)
    if os.path.isdir(absolute):
        raise ToolFailure(f"{path!r} is a directory; name a file in it", path=path)
    files.replace(absolute, image, path)
    noted: list[JSON] = [*warnings]
    return {
        "path": paths.relative(absolute, context),
        "width": width,
        "height": height,
        "bytes": len(image),
        "points": sum(len(one.y) for one in series),
        "warnings": noted,
    }
