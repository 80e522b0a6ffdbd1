"""read_file: the content of a text file of the workspace."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import bounds, read_file


def read(context: ToolContext, path: str, max_lines: int | None = None) -> Any:
    return read_file.run(
        {"path": path} if max_lines is None else {"path": path, "max_lines": max_lines}, context
    )


def test_A6_read_file_gives_content_size_and_line_count(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.txt").write_text("eins\nzwei ü\n")
    assert read(context, "a.txt") == {
        "content": "eins\nzwei ü\n",
        "size": 13,
        "line_count": 2,
        "truncated": False,
        "invalid_utf8_replaced": False,
    }


@pytest.mark.parametrize(
    ("content", "max_lines", "expected", "lines", "truncated"),
    [
        ("", None, "", 0, False),
        ("", 5, "", 0, False),
        ("no end", None, "no end", 1, False),
        ("a\nb\nc", 2, "a\nb\n", 3, True),
        ("a\nb\nc", 3, "a\nb\nc", 3, False),
        ("a\nb\n", 2, "a\nb\n", 2, False),
        ("a\nb\n", 1000, "a\nb\n", 2, False),
        ("\n\n\n", 1, "\n", 3, True),
        ("a\r\nb\r\n", 1, "a\r\n", 2, True),
        ("a\rb\u2028c\x0cd", None, "a\rb\u2028c\x0cd", 1, False),
        ("\ufefftext", None, "\ufefftext", 1, False),
    ],
)
def test_A6_read_file_reads_whole_lines_up_to_max_lines(
    *,
    content: str,
    max_lines: int | None,
    expected: str,
    lines: int,
    truncated: bool,
    workspace: Path,
    context: ToolContext,
) -> None:
    (workspace / "a").write_bytes(content.encode())
    result = read(context, "a", max_lines)
    assert (result["content"], result["line_count"], result["truncated"]) == (expected, lines, truncated)


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", "link", "dir/secret.txt"]
)
def test_A7_read_file_refuses_traversal(path: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "link").symlink_to("../secret.txt")
    (workspace / "dir").symlink_to("..")
    with pytest.raises(PermissionRefused) as caught:
        read(context, path)
    assert caught.value.rule == "workspace"


def test_A7_read_file_keeps_to_the_allowed_paths(workspace: Path) -> None:
    (workspace / "a.txt").write_text("a")
    (workspace / "b.txt").write_text("b")
    context = ToolContext(str(workspace), allowed_paths=("b.txt",))
    assert read(context, "b.txt")["content"] == "b"
    with pytest.raises(PermissionRefused, match=r"'b\.txt'"):
        read(context, "a.txt")


def test_A6_read_file_replaces_what_is_not_utf8_and_says_so(workspace: Path, context: ToolContext) -> None:
    (workspace / "latin1.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    result = read(context, "latin1.txt")
    assert (result["content"], result["invalid_utf8_replaced"]) == ("caf\ufffd\n", True)


def test_A6_read_file_tells_a_replacement_character_of_the_file_from_one_of_its_own(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "a").write_text("\ufffd")
    assert read(context, "a")["invalid_utf8_replaced"] is False


@pytest.mark.parametrize("content", [b"\0", b"\x89PNG\r\n\x1a\n\0\0", b"text\n" * 9000 + b"\0"])
def test_A6_read_file_refuses_binary_files_by_their_first_nul(
    content: bytes, workspace: Path, context: ToolContext
) -> None:
    (workspace / "b").write_bytes(content)
    with pytest.raises(ToolFailure, match=rf"is not text: byte {content.index(0)} is NUL"):
        read(context, "b")


@pytest.mark.parametrize("character", ["x", "ü", "日", "😀", "\x01", "\n"])
def test_A6_read_file_cuts_huge_files_to_what_a_result_can_carry(
    character: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "huge").write_text(character * (3 << 20))
    result = read(context, "huge")
    assert result["truncated"] is True
    assert result["invalid_utf8_replaced"] is False
    assert set(result["content"]) == {character}
    assert result["size"] == (3 << 20) * len(character.encode())
    assert result["line_count"] == (3 << 20 if character == "\n" else 1)
    assert bounds.RESULT_BYTES - 20 <= len(json.dumps(result["content"])) <= bounds.RESULT_BYTES + 2


def test_A6_read_file_does_not_cut_a_file_that_just_fits(workspace: Path, context: ToolContext) -> None:
    (workspace / "fits").write_text("x" * bounds.RESULT_BYTES)
    assert read(context, "fits")["truncated"] is False
    (workspace / "fits").write_text("x" * bounds.RESULT_BYTES + "y")
    assert read(context, "fits")["truncated"] is True


@pytest.mark.parametrize("path", ["dir", "pipe", "socket", "link-to-pipe"])
def test_A6_read_file_waits_for_nothing_and_reads_regular_files_only(
    path: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "dir").mkdir()
    os.mkfifo(workspace / "pipe")
    (workspace / "link-to-pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(ToolFailure, match=r"directory; list_dir lists it|not a regular file"):
            read(context, path)


def test_A6_read_file_follows_a_link_inside_and_reports_a_circle(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "a.txt").write_text("here")
    (workspace / "link").symlink_to("a.txt")
    (workspace / "loop").symlink_to("loop")
    assert read(context, "link")["content"] == "here"
    with pytest.raises(ToolFailure, match="circle"):
        read(context, "loop")


@pytest.mark.parametrize(
    ("path", "code"), [("nowhere", "ENOENT"), ("file/below", "ENOTDIR"), ("x" * 300, "ENAMETOOLONG")]
)
def test_A6_read_file_names_the_file_and_the_systems_reason(
    path: str, code: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "file").write_text("")
    with pytest.raises(ToolFailure) as caught:
        read(context, path)
    assert caught.value.details == {"path": path, "errno": code}
    assert isinstance(caught.value.__cause__, OSError)


def test_A6_read_file_refuses_nul_and_empty_paths(context: ToolContext) -> None:
    for path in ("", "a\0b"):
        with pytest.raises(InvalidArgument):
            read(context, path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=st.binary(max_size=300), max_lines=st.none() | st.integers(1, 10), limit=st.integers(2, 400))
def test_A6_read_file_of_any_bytes_is_a_start_of_them_or_a_refusal(
    content: bytes, max_lines: int | None, limit: int, workspace: Path
) -> None:
    (workspace / "f").write_bytes(content)
    context = ToolContext(str(workspace), output_limit_bytes=limit)
    try:
        result = read(context, "f", max_lines)
    except ToolFailure:
        assert b"\0" in content
        return
    whole = content.decode("utf-8", "replace")
    assert whole.startswith(result["content"])
    assert len(json.dumps(result["content"])) - 2 <= max(1, limit // 2)
    if max_lines is not None:
        assert result["content"].count("\n") <= max_lines
    if not result["truncated"]:
        assert result["content"] == whole
    assert result["size"] == len(content)
