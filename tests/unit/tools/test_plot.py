"""plot: pictures of data, the same for the same data."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import chart_data, plot

KINDS = ["line", "bar", "scatter", "hist", "pie"]


def draw(context: ToolContext, kind: str, path: str = "a.png", **more: Any) -> Any:
    return plot.run({"kind": kind, "path": path, **more}, context)


def size_of(picture: Path) -> tuple[int, int]:
    data = picture.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", [None, [1, 2.5, 10], ["one", "two", "three"]])
def test_every_kind_is_drawn_in_the_size_asked_for(
    kind: str, x: Any, workspace: Path, context: ToolContext
) -> None:
    series = {"name": "s", "y": [3, 1, 2]} | ({} if x is None else {"x": x})
    labels = {"title": "T", "x_label": "x", "y_label": "y"}
    result = draw(context, kind, "out/a.png", series=[series], width=321, height=200, **labels)
    picture = workspace / "out/a.png"
    assert result == {
        "path": "out/a.png",
        "width": 321,
        "height": 200,
        "bytes": picture.stat().st_size,
        "points": 3,
        "warnings": [],
    }
    assert size_of(picture) == (321, 200)


def test_the_same_data_give_the_same_bytes_and_others_do_not(workspace: Path, context: ToolContext) -> None:
    for name, y in (("1", [1, 2]), ("2", [1, 2]), ("3", [2, 1])):
        draw(context, "line", f"{name}.png", series=[{"y": y}])
    first, second, third = ((workspace / f"{name}.png").read_bytes() for name in "123")
    assert first == second != third


@pytest.mark.parametrize("kind", ["line", "bar", "scatter", "hist"])
def test_columns_of_a_csv_file_are_drawn(kind: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "m.csv").write_text("\ufeffmonth,a, b ,note\nJan,1,2,x\nFeb,, 3 ,y\n\nMar,4\n")
    result = draw(context, kind, csv={"path": "m.csv", "x": "month", "y": ["a", " b "]})
    assert (result["points"], result["warnings"]) == (6, [])


def test_columns_of_numbers_are_a_numeric_axis(workspace: Path, context: ToolContext) -> None:
    (workspace / "m.csv").write_text("x,y\n1,1\n10,2\n")
    series = chart_data.from_csv({"path": "m.csv", "x": "x", "y": ["y"]}, "line", context)
    assert (series[0].x, series[0].y, series[0].name) == ([1.0, 10.0], [1.0, 2.0], "y")


def test_missing_values_leave_gaps(context: ToolContext) -> None:
    for kind in ("line", "bar", "scatter", "hist"):
        assert draw(context, kind, series=[{"y": [1, None, 3]}])["points"] == 3
        assert draw(context, kind, series=[{"y": [None]}])["points"] == 1


def test_series_over_different_places_share_an_axis(context: ToolContext) -> None:
    series = [{"name": "1", "x": ["a", "b"], "y": [1, 2]}, {"name": "2", "x": ["b", "c"], "y": [3, 4]}]
    for kind in ("line", "bar", "scatter"):
        assert draw(context, kind, series=series)["points"] == 4


def test_dollar_signs_are_no_mathematics_and_missing_letters_are_told(context: ToolContext) -> None:
    series = [{"y": [1], "name": "$x_{"}]
    assert draw(context, "line", series=series, title="$5 and $6 \\frac{")["warnings"] == []
    warnings = draw(context, "line", series=[{"y": [1]}], title="漢字")["warnings"]
    assert warnings
    assert all("missing from font" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "series"),
        ({"series": [{"y": [1]}], "csv": {"path": "m.csv", "y": ["a"]}}, "series"),
        ({"series": []}, "series"),
        ({"series": [{"y": []}]}, "series"),
        ({"series": [{"x": [1], "y": [1, 2]}]}, "series[0].x"),
        ({"series": [{"y": [1]}, {"x": [1, "a"], "y": [1, 2]}]}, "series[1].x"),
        ({"series": [{"x": ["a"], "y": [1]}, {"x": [1], "y": [1]}]}, "series"),
        ({"series": [{"y": [0] * 100_001}]}, "series"),
        ({"csv": {"path": "m.csv", "x": "nope", "y": ["a"]}}, "csv.x"),
        ({"csv": {"path": "m.csv", "y": ["a", "nope"]}}, "csv.y[1]"),
        ({"csv": {"path": "empty.csv", "y": ["a"]}}, "csv.y[0]"),
        ({"csv": {"path": "head.csv", "y": ["a"]}}, "csv"),
        ({"series": [{"y": [1]}], "path": "a.jpg"}, "path"),
        ({"series": [{"y": [1]}, {"y": [1]}], "kind": "pie"}, "series"),
        ({"series": [{"y": [1, -1]}], "kind": "pie"}, "series"),
        ({"series": [{"y": [1, None]}], "kind": "pie"}, "series"),
        ({"series": [{"y": [0, 0]}], "kind": "pie"}, "series"),
    ],
)
def test_data_that_cannot_be_drawn_are_refused_by_field(
    arguments: dict[str, Any], field: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "m.csv").write_text("a,b\n1,2\n")
    (workspace / "empty.csv").write_text("")
    (workspace / "head.csv").write_text("a,b\n")
    with pytest.raises(InvalidArgument) as caught:
        plot.run({"kind": "line", "path": "a.png", **arguments}, context)
    assert caught.value.field == field
    assert not (workspace / "a.png").exists()


def test_a_value_that_is_no_number_is_named_with_its_line(workspace: Path, context: ToolContext) -> None:
    (workspace / "m.csv").write_text("a\n1\nmany\n")
    with pytest.raises(ToolFailure, match="column 'a' has no number in data line 3: 'many'"):
        draw(context, "line", csv={"path": "m.csv", "y": ["a"]})
    (workspace / "m.csv").write_text('a\n"' + "x" * 200_000 + '"\n')
    with pytest.raises(ToolFailure, match="is not CSV"):
        draw(context, "line", csv={"path": "m.csv", "y": ["a"]})


def test_values_an_axis_cannot_hold_are_a_failure(context: ToolContext) -> None:
    with pytest.raises(ToolFailure, match="cannot draw"):
        draw(context, "line", series=[{"y": [1e308, -1e308]}])


def test_A7_nothing_outside_is_read_or_written(workspace: Path, context: ToolContext) -> None:
    (workspace / "link.png").symlink_to("../secret.txt")
    for arguments in (
        {"path": "../a.png", "series": [{"y": [1]}]},
        {"path": "link.png", "series": [{"y": [1]}]},
        {"path": "a.png", "csv": {"path": "../secret.txt", "y": ["a"]}},
    ):
        with pytest.raises(PermissionRefused):
            plot.run({"kind": "line", **arguments}, context)
    assert (workspace.parent / "secret.txt").read_text() == "secret"


def test_a_directory_in_the_way_is_named(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.png").mkdir()
    with pytest.raises(ToolFailure, match="directory"):
        draw(context, "line", series=[{"y": [1]}])


def test_many_points_are_drawn(context: ToolContext) -> None:
    series = [{"name": "n", "y": [number % 97 for number in range(chart_data.MAX_POINTS)]}]
    for kind in ("line", "scatter", "hist"):
        assert draw(context, kind, series=series)["warnings"] == []


def test_it_works_with_little_memory_and_executes_nothing(workspace: Path) -> None:
    program = f"""
import os, resource, sys
data = (256 << 20) + (256 << 18) + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (data, data))
os.environ["HOME"] = "/nonexistent"
os.environ["TMPDIR"] = {str(workspace.parent)!r}
os.environ.pop("MPLCONFIGDIR", None)
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"):
        raise SystemExit(event)
sys.addaudithook(refuse)
from corral_runner.interface import ToolContext
from corral_tools import plot
arguments = {{"kind": "line", "path": "a.png", "series": [{{"y": [1, 2]}}]}}
print(plot.run(arguments, ToolContext({str(workspace)!r})))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace)
    assert "'warnings': []" in ended.stdout
    assert ended.stderr == ""
    assert [path.name for path in workspace.iterdir()] == ["a.png"]
