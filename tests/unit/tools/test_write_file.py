"""write_file: overwrite, append, create; all of it or nothing."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import write_file


def write(context: ToolContext, path: str, content: str, **more: Any) -> Any:
    return write_file.run({"path": path, "content": content, **more}, context)


def fail_after(count_bytes: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system be full after so many bytes."""
    real = os.write
    left = count_bytes

    def limited(descriptor: int, data: "bytes | memoryview[int]") -> int:
        nonlocal left
        if left == 0:
            raise OSError(number, os.strerror(number))
        written = real(descriptor, data[:left])
        left -= written
        return written

    monkeypatch.setattr(os, "write", limited)


def test_a_new_file_is_written_with_its_directories(workspace: Path, context: ToolContext) -> None:
    assert write(context, "a/b/c.txt", "hé\n") == {
        "path": "a/b/c.txt",
        "bytes_written": 4,
        "size": 4,
        "created": True,
    }
    assert (workspace / "a/b/c.txt").read_text() == "hé\n"


def test_overwrite_replaces_content_and_keeps_the_mode(workspace: Path, context: ToolContext) -> None:
    (workspace / "run.sh").write_text("long old content")
    (workspace / "run.sh").chmod(0o750)
    assert write(context, "run.sh", "new") == {
        "path": "run.sh",
        "bytes_written": 3,
        "size": 3,
        "created": False,
    }
    assert (workspace / "run.sh").read_text() == "new"
    assert (workspace / "run.sh").stat().st_mode & 0o777 == 0o750


def test_append_adds_and_creates(workspace: Path, context: ToolContext) -> None:
    assert write(context, "log", "one\n", mode="append")["created"] is True
    assert write(context, "log", "two\n", mode="append") == {
        "path": "log",
        "bytes_written": 4,
        "size": 8,
        "created": False,
    }
    assert (workspace / "log").read_text() == "one\ntwo\n"


def test_create_writes_only_what_is_not_there(workspace: Path, context: ToolContext) -> None:
    assert write(context, "new", "1", mode="create")["created"] is True
    with pytest.raises(ToolFailure, match="exists already; mode 'overwrite' replaces it"):
        write(context, "new", "2", mode="create")
    assert (workspace / "new").read_text() == "1"


def test_base64_writes_bytes_and_refuses_what_is_none(workspace: Path, context: ToolContext) -> None:
    assert write(context, "b", "AP8=", encoding="base64")["bytes_written"] == 2
    assert (workspace / "b").read_bytes() == b"\x00\xff"
    for wrong in ("AP8", "not base64!", "ü"):
        with pytest.raises(InvalidArgument, match="content: is not base64"):
            write(context, "b", wrong, encoding="base64")


@pytest.mark.parametrize("mode", ["overwrite", "append", "create"])
@pytest.mark.parametrize("path", ["../x", "/tmp/x", "out/x", "hop"])
def test_A7_nothing_is_written_outside(mode: str, path: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "out").symlink_to("..")
    (workspace / "hop").symlink_to("../secret.txt")
    with pytest.raises(PermissionRefused):
        write(context, path, "x", mode=mode)
    assert (workspace.parent / "secret.txt").read_text() == "secret"
    assert sorted(path.name for path in workspace.parent.iterdir()) == ["secret.txt", "workspace"]


def test_A7_nothing_is_written_beside_the_allowed_paths(workspace: Path) -> None:
    context = ToolContext(str(workspace), allowed_paths=("out",))
    assert write(context, "out/a", "x")["created"] is True
    with pytest.raises(PermissionRefused):
        write(context, "a", "x")


@pytest.mark.parametrize("mode", ["overwrite", "append", "create"])
@pytest.mark.parametrize(("number", "room"), [(errno.ENOSPC, 4), (errno.EFBIG, 0), (errno.EDQUOT, 7)])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    *,
    mode: str,
    number: int,
    room: int,
    workspace: Path,
    context: ToolContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if mode != "create":
        (workspace / "f").write_text("old")
    fail_after(room, number, monkeypatch)
    with pytest.raises(ToolFailure) as caught:
        write(context, "f", "0123456789", mode=mode)
    monkeypatch.undo()
    # The runner looks along the causes for the limit's own reason.
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    assert {path.name: path.read_text() for path in workspace.iterdir()} == (
        {} if mode == "create" else {"f": "old"}
    )


def test_partial_writes_are_carried_on(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    write(context, "f", "0123456789")
    monkeypatch.undo()
    assert (workspace / "f").read_text() == "0123456789"


@pytest.mark.parametrize("mode", ["overwrite", "append", "create"])
def test_a_directory_is_not_written_over(mode: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "d").mkdir()
    with pytest.raises(ToolFailure, match="is a directory"):
        write(context, "d", "x", mode=mode)
    with pytest.raises(ToolFailure, match="is a directory"):
        write(context, ".", "x", mode=mode)


def test_append_neither_waits_for_nor_writes_into_a_fifo(workspace: Path, context: ToolContext) -> None:
    os.mkfifo(workspace / "pipe")
    with pytest.raises(ToolFailure, match="not a regular file"):
        write(context, "pipe", "x", mode="append")


def test_a_file_in_the_way_of_a_directory_is_named(workspace: Path, context: ToolContext) -> None:
    (workspace / "file").write_text("")
    with pytest.raises(ToolFailure, match="file/x"):
        write(context, "file/x", "x")


def test_a_read_only_workspace_is_a_refusal_that_names_permissions(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionRefused, match="permissions") as caught:
        write(context, "x", "x")
    monkeypatch.undo()
    assert caught.value.rule == "permissions"


def test_a_lone_surrogate_is_refused_with_its_place(context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match="content: has a lone surrogate at character 2"):
        write(context, "x", "ab\ud800")


def test_a_link_inside_is_written_through(workspace: Path, context: ToolContext) -> None:
    (workspace / "real").write_text("old")
    (workspace / "link").symlink_to("real")
    assert write(context, "link", "new")["path"] == "real"
    assert (workspace / "link").is_symlink()
    assert (workspace / "real").read_text() == "new"
