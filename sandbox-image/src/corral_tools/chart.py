"""The picture of a chart. The same data give the same bytes: bundled fonts, no dates, no system settings."""

import errno
import os

from corral_runner.interface import ToolFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.axes import Axes

    from corral_tools.chart_data import Series

#: Pixels and points are then in a ratio at which text of 10 points is easy to read on a screen.
_DOTS_PER_INCH = 100
#: More names below an axis run into each other.
_NAMES_SHOWN = 25
_BARS_WIDTH = 0.8
_WARNINGS_SHOWN = 10
_NAME_CHARACTERS = 30
#: With more points than this, marks hide the line.
_MARKED_POINTS = 60
#: The best place for a legend is looked for among all points.
_LEGEND_POINTS = 5000


def draw(
    kind: str,
    series: "Sequence[Series]",
    *,
    title: str,
    labels: tuple[str, str],
    size: tuple[int, int],
    bins: int,
) -> tuple[bytes, list[str]]:
    """A chart as a PNG, and what matplotlib warned of, such as characters its fonts do not have.

    Args:
        kind: line, bar, scatter, hist or pie.
        series: what to draw.
        title: above the chart.
        labels: of the x and the y axis.
        size: width and height in pixels.
        bins: of a histogram.
    """
    import io
    import warnings

    _prepare()
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = io.BytesIO()
    # parse_math: a dollar sign is money here, not mathematics.
    settings: Any = {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    with warnings.catch_warnings(record=True) as caught, mpl.rc_context(settings):
        warnings.simplefilter("always")
        inches = (size[0] / _DOTS_PER_INCH, size[1] / _DOTS_PER_INCH)
        figure = Figure(figsize=inches, dpi=_DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        try:
            _draw(axes, kind, series, bins)
            axes.set_title(title)
            axes.set_axisbelow(True)
            if kind != "pie":
                axes.set_xlabel(labels[0])
                axes.set_ylabel(labels[1])
                axes.grid(visible=True, alpha=0.3)
                if any(one.name for one in series):
                    points = sum(len(one.y) for one in series)
                    axes.legend(loc="best" if points <= _LEGEND_POINTS else "upper right")
            figure.savefig(image, format="png", metadata={"Software": None})
        except (
            ValueError,
            OverflowError,
        ) as error:  # values too far apart for an axis, or all of them missing
            raise ToolFailure(f"matplotlib cannot draw these values: {error}") from error
    told = [str(warning.message)[:300] for warning in caught if issubclass(warning.category, UserWarning)]
    return image.getvalue(), told[:_WARNINGS_SHOWN]


def _draw(axes: "Axes", kind: str, series: "Sequence[Series]", bins: int) -> None:
    if kind == "pie":
        axes.pie(
            series[0].y, labels=series[0].categories, autopct="%1.1f%%", startangle=90, counterclock=False
        )
        axes.set_aspect("equal")
    elif kind == "hist":
        values = [[value for value in one.y if value == value] for one in series]  # noqa: PLR0124 - not NaN
        axes.hist(values, bins=bins, label=[one.name for one in series])
    elif kind == "bar":
        _draw_bars(axes, series)
    else:
        _draw_points(axes, series, joined=kind == "line")


def _draw_points(axes: "Axes", series: "Sequence[Series]", *, joined: bool) -> None:
    names = _places(series) if series[0].categories is not None else None
    for one in series:
        if names is not None:
            x: Sequence[float] = [names[str(name)] for name in one.x or ()]
        else:
            x = range(len(one.y)) if one.x is None else [float(value) for value in one.x]
        if joined:
            few = len(one.y) <= _MARKED_POINTS
            axes.plot(x, one.y, label=one.name, marker="o" if few else "", markersize=4)
        else:
            axes.scatter(x, one.y, label=one.name, s=16)
    if names is not None:
        _name_ticks(axes, list(names))


def _draw_bars(axes: "Axes", series: "Sequence[Series]") -> None:
    """Side by side at each place; numbers on the x axis are places too, in their order."""
    places = _places(series)
    width = _BARS_WIDTH / len(series)
    for number, one in enumerate(series):
        offset = (number - (len(series) - 1) / 2) * width
        x = [places[str(value)] + offset for value in (range(len(one.y)) if one.x is None else one.x)]
        axes.bar(x, one.y, width=width, label=one.name)
    _name_ticks(axes, [name.removesuffix(".0") for name in places])


def _places(series: "Sequence[Series]") -> dict[str, int]:
    """The position of each place: names in the order they come in, numbers in their own."""
    found: dict[str, float | str] = {}
    for one in series:
        for value in range(len(one.y)) if one.x is None else one.x:
            found.setdefault(str(value), value)
    names = list(found)
    if not any(isinstance(value, str) for value in found.values()):
        names.sort(key=lambda name: float(found[name]))
    return {name: position for position, name in enumerate(names)}


def _name_ticks(axes: "Axes", names: list[str]) -> None:
    axes.set_xlim(-0.5, len(names) - 0.5)
    step = -(-len(names) // _NAMES_SHOWN)
    shown = [
        name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}…" for name in names[::step]
    ]
    turned = sum(map(len, shown)) > _NAME_CHARACTERS * 2
    axes.set_xticks(
        range(0, len(names), step), shown, rotation=45 if turned else 0, ha="right" if turned else "center"
    )


def _prepare() -> None:
    """Import matplotlib without leaving traces outside /tmp, and without asking the system for its fonts.

    The import runs fc-list, which a task may have no permission for; the fonts matplotlib brings are enough.
    """
    import subprocess
    import tempfile

    # An image that ships the font cache says where it is.
    if "MPLCONFIGDIR" not in os.environ:
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="matplotlib-")
    # OpenBLAS starts a thread for every core, each with its stack; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    execute = subprocess.check_output
    subprocess.check_output = _execute_nothing  # type: ignore[assignment]
    try:
        import matplotlib.font_manager  # noqa: F401
    finally:
        subprocess.check_output = execute


def _execute_nothing(*_arguments: object, **_options: object) -> bytes:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
