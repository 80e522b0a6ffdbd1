"""edit_file: exact replacements, all or none."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, edit_file


def edit(context: ToolContext, *edits: dict[str, Any], path: str = "f") -> Any:
    return edit_file.run({"path": path, "edits": list(edits)}, context)


def test_one_edit_changes_the_file_and_shows_the_change(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("a\nb\nc\n")
    assert edit(context, {"old": "b", "new": "B\nBB"}) == {
        "path": "f",
        "replacements": 1,
        "changed": True,
        "diff": "--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n+BB\n c\n",
        "added": 2,
        "removed": 1,
        "truncated": False,
    }
    assert (workspace / "f").read_text() == "a\nB\nBB\nc\n"


def test_edits_build_on_each_other(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("one")
    assert edit(context, {"old": "one", "new": "two"}, {"old": "two", "new": "three"})["replacements"] == 2
    assert (workspace / "f").read_text() == "three"


def test_an_edit_that_fails_undoes_all(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("one")
    with pytest.raises(ToolFailure, match=r"edits\[1\].old does not occur"):
        edit(context, {"old": "one", "new": "two"}, {"old": "one", "new": "x"})
    assert (workspace / "f").read_text() == "one"


def test_an_ambiguous_edit_is_refused_with_the_lines(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("x = 1\ny = 2\nx = 1\n")
    with pytest.raises(ToolFailure, match=r"occurs 2 times \(lines 1, 3\)") as caught:
        edit(context, {"old": "x = 1", "new": "x = 2"})
    assert caught.value.details == {"field": "edits[0].old", "found": 2}
    assert edit(context, {"old": "x = 1", "new": "x = 2", "replace_all": True})["replacements"] == 2
    assert (workspace / "f").read_text() == "x = 2\ny = 2\nx = 2\n"


def test_only_some_of_many_lines_are_named(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("x\n" * 100)
    with pytest.raises(ToolFailure, match=r"occurs 100 times \(lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …\)"):
        edit(context, {"old": "x", "new": "y"})


@pytest.mark.parametrize(
    ("content", "old", "hint"),
    [
        ("a\r\nb\r\n", "a\nb", "end with CR LF"),
        ("def f():\n    pass\n", "\n\ndef f():", "without the white space around"),
        ("if x:\n        y()\n        z()\n", "if x:\n    y()\n    z()", "other indentation"),
        ("something else", "absent", "read_file shows"),
    ],
)
def test_a_piece_that_is_nearly_there_gets_a_hint(
    content: str, old: str, hint: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "f").write_bytes(content.encode())
    with pytest.raises(ToolFailure, match=hint):
        edit(context, {"old": old, "new": "x"})


def test_line_ends_byte_order_mark_and_mode_stay(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    (workspace / "f").chmod(0o700)
    edit(context, {"old": "b", "new": "c"})
    assert (workspace / "f").read_bytes() == b"\xef\xbb\xbfa\r\nc\r\n"
    assert (workspace / "f").stat().st_mode & 0o777 == 0o700


def test_a_missing_newline_at_the_end_is_shown_as_patch_wants_it(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "f").write_text("a")
    assert edit(context, {"old": "a", "new": "b"})["diff"] == (
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"
    )


def test_an_edit_that_changes_nothing_writes_nothing(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("a")
    before = (workspace / "f").stat().st_ino
    result = edit(context, {"old": "a", "new": "a"})
    assert (result["changed"], result["diff"]) == (False, "")
    assert (workspace / "f").stat().st_ino == before


def test_A7_what_is_outside_is_not_edited(workspace: Path, context: ToolContext) -> None:
    (workspace / "link").symlink_to("../secret.txt")
    for path in ("../secret.txt", "link"):
        with pytest.raises(PermissionRefused):
            edit(context, {"old": "secret", "new": "x"}, path=path)
    assert (workspace.parent / "secret.txt").read_text() == "secret"


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff\xfe", "byte 0 is 0xff"), (b"x" * 5_000_000, "at most 4194304")]
)
def test_a_file_that_is_no_text_or_too_large_is_refused(
    content: bytes, why: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "f").write_bytes(content)
    with pytest.raises(ToolFailure, match=why):
        edit(context, {"old": "x", "new": "y"})


def test_an_edit_cannot_blow_the_file_up(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("x" * 1000)
    with pytest.raises(ToolFailure, match="would grow to 10000000 bytes"):
        edit(context, {"old": "x", "new": "y" * 10_000, "replace_all": True})
    assert (workspace / "f").read_text() == "x" * 1000


def test_an_empty_piece_and_a_lone_surrogate_are_refused(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("x")
    with pytest.raises(InvalidArgument, match=r"edits\[0\].old: is empty"):
        edit(context, {"old": "", "new": "y"})
    with pytest.raises(InvalidArgument, match="lone surrogate"):
        edit(context, {"old": "x", "new": "\udfff"})


def test_a_long_diff_is_cut_and_the_file_changed_all_the_same(workspace: Path, context: ToolContext) -> None:
    (workspace / "f").write_text("".join(f"line {number}\n" for number in range(20_000)))
    result = edit(context, {"old": "line", "new": "row", "replace_all": True})
    assert (result["truncated"], result["added"], result["removed"]) == (True, 20_000, 20_000)
    assert len(result["diff"]) <= bounds.RESULT_BYTES
    assert (workspace / "f").read_text().startswith("row 0\n")


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=25,
    deadline=None,
)
@given(
    before=st.text("ab\n", min_size=1, max_size=40),
    new=st.text("abc\n", max_size=10),
    start=st.integers(0, 39),
    length=st.integers(1, 5),
)
def test_the_diff_is_what_patch_applies(
    *, before: str, new: str, start: int, length: int, workspace: Path, context: ToolContext
) -> None:
    old = before[start % len(before) :][:length]
    (workspace / "f").write_bytes(before.encode())
    result = edit(context, {"old": old, "new": new, "replace_all": True})
    after = (workspace / "f").read_bytes()
    if not result["changed"]:
        return
    (workspace / "f").write_bytes(before.encode())
    subprocess.run(["patch", "-s", "-E", "-p1"], input=result["diff"].encode(), check=True, cwd=workspace)
    # -E removes a file that became empty.
    assert ((workspace / "f").read_bytes() if (workspace / "f").exists() else b"") == after
