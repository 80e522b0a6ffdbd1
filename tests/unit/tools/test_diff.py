"""diff: two texts or files, their difference and its numbers."""

from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, diff


def compare(context: ToolContext, **arguments: Any) -> Any:
    return diff.run(arguments, context)


def test_two_texts_are_compared(context: ToolContext) -> None:
    assert compare(context, before="a\nb\nc\n", after="a\nc\nd\n") == {
        "identical": False,
        "diff": "--- before\n+++ after\n@@ -1,3 +1,3 @@\n a\n-b\n c\n+d\n",
        "added": 1,
        "removed": 1,
        "truncated": False,
    }


def test_equal_texts_have_no_difference(context: ToolContext) -> None:
    for text in ("", "a", "a\n"):
        assert compare(context, before=text, after=text) == {
            "identical": True,
            "diff": "",
            "added": 0,
            "removed": 0,
            "truncated": False,
        }


def test_files_and_texts_can_be_mixed_and_are_named(workspace: Path, context: ToolContext) -> None:
    (workspace / "old.txt").write_text("x\n")
    (workspace / "new.txt").write_text("y\n")
    assert compare(context, before_path="old.txt", after_path="./new.txt")["diff"].startswith(
        "--- old.txt\n+++ new.txt\n"
    )
    assert compare(context, before_path="old.txt", after="x\n")["identical"] is True


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "a\n", "@@ -0,0 +1 @@\n+a\n"),
        ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
        ("a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
        ("a\r\n", "a\n", "@@ -1 +1 @@\n-a\r\n+a\n"),
        ("a\x0cb\n", "a\x0cc\n", "@@ -1 +1 @@\n-a\x0cb\n+a\x0cc\n"),
        ("--- a\n", "+++ b\n", "@@ -1 +1 @@\n---- a\n++++ b\n"),
    ],
)
def test_line_ends_and_odd_lines_are_told_as_patch_reads_them(
    before: str, after: str, expected: str, context: ToolContext
) -> None:
    result = compare(context, before=before, after=after)
    assert result["diff"] == f"--- before\n+++ after\n{expected}"
    assert (result["added"], result["removed"]) == (expected.count("\n+"), expected.count("\n-"))


def test_context_lines_are_as_many_as_asked(context: ToolContext) -> None:
    before, after = "1\n2\n3\n4\n5\n", "1\n2\nX\n4\n5\n"
    assert compare(context, before=before, after=after, context_lines=0)["diff"].splitlines()[2:] == [
        "@@ -3 +3 @@",
        "-3",
        "+X",
    ]
    assert len(compare(context, before=before, after=after, context_lines=1)["diff"].splitlines()) == 7


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "before"),
        ({"before": "a"}, "after"),
        ({"before": "a", "before_path": "b", "after": "c"}, "before"),
        ({"before": "a", "after": "b", "after_path": "c"}, "after"),
        ({"before": "x" * (5 << 20), "after": ""}, "before"),
        ({"before": "", "after": "\ud800"}, "after"),
    ],
)
def test_each_side_is_given_once_and_is_text(
    arguments: dict[str, str], field: str, context: ToolContext
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        compare(context, **arguments)
    assert caught.value.field == field


def test_A7_files_outside_are_refused(context: ToolContext) -> None:
    with pytest.raises(PermissionRefused):
        compare(context, before_path="../secret.txt", after="")


def test_binary_and_missing_files_are_failures(workspace: Path, context: ToolContext) -> None:
    (workspace / "b").write_bytes(b"\xff")
    for path, why in (("b", "not UTF-8"), ("nowhere", "No such file")):
        with pytest.raises(ToolFailure, match=why):
            compare(context, before="", after_path=path)


def test_a_long_difference_is_cut_but_counted(context: ToolContext) -> None:
    after = "".join(f"{number}\n" for number in range(50_000))
    result = compare(context, before="", after=after)
    assert (result["added"], result["removed"], result["truncated"]) == (50_000, 0, True)
    assert len(result["diff"]) <= bounds.RESULT_BYTES
