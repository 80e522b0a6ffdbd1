"""Files that came back are written below the directory, whatever their names are."""

from pathlib import Path

import pytest

from corral.cli.outputs import OutputRefusedError, write_below


def test_a_file_is_written_with_the_directories_on_the_way(tmp_path: Path) -> None:
    place = write_below(tmp_path / "new", "./a//b/c.txt", b"content")

    assert place == tmp_path / "new/a/b/c.txt"
    assert place.read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "new/a/b").iterdir()] == ["c.txt"]


def test_a_file_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    write_below(tmp_path, "a", b"first")
    write_below(tmp_path, "a", b"second")

    assert (tmp_path / "a").read_bytes() == b"second"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../out", "a/../../out", "", ".", "a\0b", "a/" + "b" * 256, "\udfff\ud800"]
)
def test_a_name_that_is_no_relative_path_is_refused(tmp_path: Path, path: str) -> None:
    below = tmp_path / "below"

    with pytest.raises(OutputRefusedError):
        write_below(below, path, b"")

    assert [found for found in tmp_path.rglob("*") if found != below] == []


def test_a_symbolic_link_on_the_way_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)

    with pytest.raises(OutputRefusedError, match="'link' is a symbolic link"):
        write_below(inside, "link/file", b"x")

    assert list(outside.iterdir()) == []


def test_a_symbolic_link_of_that_name_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("untouched")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").symlink_to(target)

    write_below(inside, "file", b"new")

    assert target.read_text() == "untouched"
    assert not (inside / "file").is_symlink()
    assert (inside / "file").read_bytes() == b"new"


def test_a_directory_in_the_way_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OutputRefusedError, match="taken"):
        write_below(tmp_path, "taken", b"x")

    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]
