"""list_dir: the entries of a directory of the workspace."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import PermissionRefused, ToolContext, ToolFailure
from corral_tools import list_dir


def listed(context: ToolContext, **arguments: Any) -> Any:
    return list_dir.run(arguments, context)


def test_A6_list_dir_gives_name_type_and_size_in_the_order_of_the_names(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "b.txt").write_text("12345")
    (workspace / "a").mkdir()
    (workspace / "a/inner.txt").write_text("x")
    (workspace / ".hidden").write_text("")
    (workspace / "Z").write_text("1")
    assert listed(context) == {
        "entries": [
            {"name": ".hidden", "type": "file", "size": 0},
            {"name": "Z", "type": "file", "size": 1},
            {"name": "a", "type": "directory", "size": 0},
            {"name": "b.txt", "type": "file", "size": 5},
        ],
        "count": 4,
        "truncated": False,
    }


def test_A6_list_dir_of_an_empty_directory_is_empty(context: ToolContext) -> None:
    assert listed(context, path=".") == {"entries": [], "count": 0, "truncated": False}


def test_A6_list_dir_lists_links_and_special_files_without_following_them(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "out").symlink_to("/etc")
    (workspace / "dangling").symlink_to("nowhere")
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert listed(context)["entries"] == [
            {"name": "dangling", "type": "symlink", "size": 0},
            {"name": "out", "type": "symlink", "size": 0},
            {"name": "pipe", "type": "other", "size": 0},
            {"name": "socket", "type": "other", "size": 0},
        ]


def test_A7_list_dir_refuses_what_is_outside(workspace: Path, context: ToolContext) -> None:
    (workspace / "out").symlink_to("/etc")
    for path in ("..", "/", "out", "../workspace"):
        with pytest.raises(PermissionRefused):
            listed(context, path=path)


def test_A7_list_dir_follows_a_link_that_stays_inside(workspace: Path, context: ToolContext) -> None:
    (workspace / "real").mkdir()
    (workspace / "real/x").write_text("")
    (workspace / "alias").symlink_to("real")
    assert listed(context, path="alias")["count"] == 1


@pytest.mark.parametrize(
    ("path", "why", "code"), [("missing", "No such file", "ENOENT"), ("file", "Not a directory", "ENOTDIR")]
)
def test_A6_list_dir_says_why_there_is_nothing_to_list(
    path: str, why: str, code: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "file").write_text("")
    with pytest.raises(ToolFailure, match=why) as caught:
        listed(context, path=path)
    assert caught.value.details == {"path": path, "errno": code}
    assert isinstance(caught.value.__cause__, OSError)


def test_A6_list_dir_shows_names_that_are_not_utf8(workspace: Path, context: ToolContext) -> None:
    Path(os.fsdecode(os.fsencode(workspace) + b"/caf\xe9")).write_text("")
    (workspace / "日本").write_text("")
    assert [entry["name"] for entry in listed(context)["entries"]] == ["caf\\xe9", "日本"]


def test_A6_list_dir_counts_more_entries_than_it_lists(workspace: Path, context: ToolContext) -> None:
    for number in range(list_dir.MAX_ENTRIES + 5):
        (workspace / f"{number:05}").touch()
    result = listed(context)
    assert len(result["entries"]) == list_dir.MAX_ENTRIES
    assert result["entries"][-1]["name"] == f"{list_dir.MAX_ENTRIES - 1:05}"
    assert (result["count"], result["truncated"]) == (list_dir.MAX_ENTRIES + 5, True)


def test_A6_list_dir_keeps_within_a_small_output_limit(workspace: Path) -> None:
    for number in range(100):
        (workspace / ("x" * 200 + str(number))).touch()
    result = listed(ToolContext(str(workspace), output_limit_bytes=10_000))
    assert 0 < len(result["entries"]) < 100
    assert (result["count"], result["truncated"]) == (100, True)
