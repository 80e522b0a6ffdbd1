"""search_files: names and contents, texts and regular expressions."""

import os
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, search_files


def search(context: ToolContext, pattern: str, **more: Any) -> Any:
    return search_files.run({"pattern": pattern, **more}, context)


def places(result: Any) -> list[str]:
    return [f"{match['path']}:{match['line']}:{match['column']}" for match in result["matches"]]


@pytest.fixture
def tree(workspace: Path) -> Path:
    for path, content in {
        "README.md": "Search me\nand me\n",
        "src/app.py": "import os\n\ndef main():\n    return 'me'\n",
        "src/lib/util.py": "def helper():\n    pass\n",
        "src/lib/data.json": '{"me": 1}\n',
        "node_modules/x/index.js": "me\n",
    }.items():
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(content)
    return workspace


def test_a_text_is_found_in_the_order_of_directories_and_lines(tree: Path, context: ToolContext) -> None:
    result = search(context, "me")
    assert places(result) == [
        "README.md:1:8",
        "README.md:2:5",
        "node_modules/x/index.js:1:1",
        "src/app.py:4:13",
        "src/lib/data.json:1:3",
    ]
    assert (result["count"], result["files_searched"], result["truncated"]) == (5, 5, False)


def test_a_text_is_no_regular_expression_unless_asked(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text("a.c\nabc\n")
    assert places(search(context, "a.c")) == ["a:1:1"]
    assert places(search(context, "a.c", regex=True)) == ["a:1:1", "a:2:1"]


def test_a_wrong_regular_expression_names_the_argument(context: ToolContext) -> None:
    for pattern in ("(", "a{99999999999999999999}", "(?P<x", "(" * 5000 + ")" * 5000):
        with pytest.raises(InvalidArgument, match="pattern: is no regular expression"):
            search(context, pattern, regex=True)


def test_case_is_ignored_when_asked(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text("ÄRGER\n")
    assert search(context, "ärger")["count"] == 0
    assert search(context, "ärger", ignore_case=True)["count"] == 1


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.py"], [], ["src/app.py"]),
        (["src/*"], [], ["src/app.py", "src/lib/data.json"]),
        (["src/*.py"], [], ["src/app.py"]),
        (["src/**/*.json"], [], ["src/lib/data.json"]),
        (["**/*.js"], [], ["node_modules/x/index.js"]),
        (["src"], ["lib"], ["src/app.py"]),
        ([], ["node_modules", "*.md"], ["src/app.py", "src/lib/data.json"]),
        ([], ["src/lib/", "node_modules/**", "README.??"], ["src/app.py"]),
        (["[a-m]*.[pj]*"], ["[!a]*.js", "data.*"], ["src/app.py"]),
    ],
)
def test_globs_choose_files(
    include: list[str], exclude: list[str], expected: list[str], tree: Path, context: ToolContext
) -> None:
    result = search(context, "me", include=include, exclude=exclude)
    assert sorted({match["path"] for match in result["matches"]}) == expected


def test_names_are_found_by_their_path(tree: Path, context: ToolContext) -> None:
    assert search(context, "lib", target="names")["names"] == ["src/lib/data.json", "src/lib/util.py"]
    both = search(context, "me", target="both")
    assert (both["names"], len(both["matches"]), both["count"]) == ([], 5, 5)
    assert search(context, "index", target="both")["names"] == ["node_modules/x/index.js"]


def test_context_lines_are_those_around(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text("1\n2\n3\n4\n5\n")
    match = search(context, "3", context_lines=1)["matches"][0]
    assert (match["before"], match["after"]) == (["2"], ["4"])
    match = search(context, "1", context_lines=2)["matches"][0]
    assert (match["before"], match["after"]) == ([], ["2", "3"])


def test_one_file_or_directory_can_be_named(tree: Path, context: ToolContext) -> None:
    assert places(search(context, "me", path="src/app.py")) == ["src/app.py:4:13"]
    assert places(search(context, "me", path="src/lib")) == ["src/lib/data.json:1:3"]
    with pytest.raises(ToolFailure, match="No such file"):
        search(context, "me", path="nowhere")


def test_results_end_at_the_maximum_and_say_so(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text("x\n" * 50)
    result = search(context, "x", max_results=10)
    assert (result["count"], result["truncated"]) == (10, True)
    result = search(context, "x", max_results=50)
    assert (result["count"], result["truncated"]) == (50, False)


def test_results_end_where_a_result_can_carry_no_more(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text(("y" * 390 + "x\n") * 1000)
    result = search(context, "x", max_results=1000, context_lines=3)
    assert result["truncated"] is True
    assert 10 < result["count"] < 1000
    assert len(str(result)) < bounds.RESULT_BYTES * 1.1


def test_binary_large_and_special_files_are_skipped_and_counted(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_files, "MAX_FILE_BYTES", 1000)
    (workspace / "binary").write_bytes(b"me\0me")
    (workspace / "large").write_text("me" * 1000)
    (workspace / "latin1").write_bytes(b"caf\xe9 me\n")
    os.mkfifo(workspace / "pipe")
    result = search(context, "me")
    assert places(result) == ["latin1:1:6"]
    assert result["files_skipped"] == {"binary": 1, "too_large": 1, "unreadable": 0}


def test_A7_links_are_not_followed(workspace: Path, context: ToolContext) -> None:
    (workspace / "file").symlink_to("../secret.txt")
    (workspace / "dir").symlink_to("..")
    (workspace / "loop").symlink_to(".")
    assert search(context, "secret", target="both")["count"] == 0
    for path in ("file", "dir", ".."):
        with pytest.raises(PermissionRefused):
            search(context, "secret", path=path)


def test_A7_only_the_allowed_paths_are_searched(tree: Path) -> None:
    context = ToolContext(str(tree), allowed_paths=("src",))
    assert places(search(context, "me", path="src")) == ["src/app.py:4:13", "src/lib/data.json:1:3"]
    with pytest.raises(PermissionRefused):
        search(context, "me")


def test_a_long_line_is_shown_around_the_match(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_text("a" * 5000 + "needle" + "b" * 5000)
    match = search(context, "needle")["matches"][0]
    assert match["column"] == 5001
    assert "needle" in match["text"]
    assert len(match["text"]) < 450
    assert match["text"].startswith("…")
    assert match["text"].endswith("…")


def test_carriage_returns_at_line_ends_are_not_shown(workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_bytes(b"one\r\ntwo\r\n")
    assert search(context, "o", context_lines=1)["matches"][0] == {
        "path": "a",
        "line": 1,
        "column": 1,
        "text": "one",
        "before": [],
        "after": ["two"],
    }


def test_an_empty_workspace_gives_an_empty_result(context: ToolContext) -> None:
    assert search(context, "x", target="both") == {
        "names": [],
        "matches": [],
        "count": 0,
        "files_searched": 0,
        "files_skipped": {"binary": 0, "too_large": 0, "unreadable": 0},
        "truncated": False,
    }
