"""archive: round trips, and every kind of attack."""

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import archive, archive_reading, archive_writing, files

FORMATS = ["zip", "tar", "tar.gz", "tar.xz"]


def do(context: ToolContext, action: str, path: str, **more: Any) -> Any:
    return archive.run({"action": action, "path": path, **more}, context)


def content_of(directory: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_text()
        for path in sorted(directory.rglob("*"))
    }


def tar_of(*entries: tuple[str, bytes, str] | tuple[str, bytes, str, int]) -> bytes:
    """A tar of entries (name, type, content or link target, mode), made without the tool."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, kind, data, *mode in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = mode[0] if mode else 0o644
            if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
                info.linkname = data
            elif kind == tarfile.REGTYPE:
                info.size = len(data.encode())
            tar.addfile(info, io.BytesIO(data.encode()))
    return raw.getvalue()


def zip_of(*entries: tuple[str, str] | tuple[str, str, int]) -> bytes:
    """A zip of entries (name, content, mode), made without the tool."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode[0] if mode else stat.S_IFREG | 0o644) << 16
            file.writestr(info, data)
    return raw.getvalue()


@pytest.fixture
def tree(workspace: Path) -> Path:
    (workspace / "docs/deep").mkdir(parents=True)
    (workspace / "docs/a.txt").write_text("A" * 1000)
    (workspace / "docs/deep/ü 日本.txt").write_text("unicode")
    (workspace / "docs/empty").mkdir()
    (workspace / "run.sh").write_text("#!/bin/sh\n")
    (workspace / "run.sh").chmod(0o755)
    return workspace


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_packed_is_unpacked_again(format_: str, tree: Path, context: ToolContext) -> None:
    created = do(context, "create", f"out/all.{format_}", files=["docs", "run.sh"])
    assert created | {"size": 0} == {
        "path": f"out/all.{format_}",
        "format": format_,
        "size": 0,
        "files": 3,
        "directories": 3,
        "bytes": 1017,
        "skipped": [],
        "skipped_count": 0,
    }
    assert created["size"] == (tree / f"out/all.{format_}").stat().st_size
    listed = do(context, "list", f"out/all.{format_}")
    assert (listed["format"], listed["count"], listed["total_bytes"], listed["truncated"]) == (
        format_,
        6,
        1017,
        False,
    )
    assert {"name": "docs/a.txt", "type": "file", "size": 1000} in listed["entries"]
    extracted = do(context, "extract", f"out/all.{format_}", destination="copy")
    assert extracted == {
        "format": format_,
        "destination": "copy",
        "files": 3,
        "directories": 3,
        "bytes": 1017,
        "refused": [],
        "refused_count": 0,
    }
    assert content_of(tree / "copy/docs") == content_of(tree / "docs")
    assert (tree / "copy/run.sh").stat().st_mode & 0o111
    assert not (tree / "copy/docs/a.txt").stat().st_mode & 0o111


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_content_gives_the_same_bytes(format_: str, tree: Path, context: ToolContext) -> None:
    do(context, "create", f"1.{format_}", files=["docs"])
    os.utime(tree / "docs/a.txt", (1, 1))
    do(context, "create", f"2.{format_}", files=["docs"])
    assert (tree / f"1.{format_}").read_bytes() == (tree / f"2.{format_}").read_bytes()


@pytest.mark.parametrize(
    ("name", "format_"), [("a.tgz", "tar.gz"), ("a.TXZ", "tar.xz"), ("a.tar", "tar"), ("A.ZIP", "zip")]
)
def test_the_format_follows_the_name(name: str, format_: str, tree: Path, context: ToolContext) -> None:
    assert do(context, "create", name, files=["docs"])["format"] == format_
    assert do(context, "list", name)["format"] == format_


def test_a_name_that_tells_no_format_needs_one(tree: Path, context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match="or give 'format'"):
        do(context, "create", "backup", files=["docs"])
    assert do(context, "create", "backup", files=["docs"], format="zip")["format"] == "zip"
    assert do(context, "list", "backup")["format"] == "zip"


def test_nothing_to_pack_is_refused_and_what_is_missing_is_named(
    context: ToolContext, workspace: Path
) -> None:
    nothing: list[dict[str, Any]] = [{}, {"files": []}]
    for given_files in nothing:
        with pytest.raises(InvalidArgument, match="files: is empty"):
            do(context, "create", "a.zip", **given_files)
    with pytest.raises(ToolFailure, match="'nowhere': No such file"):
        do(context, "create", "a.zip", files=["nowhere"])
    assert content_of(workspace) == {}


def test_the_workspace_itself_is_packed_without_the_archive(tree: Path, context: ToolContext) -> None:
    do(context, "create", "all.tar", files=["."])
    first = do(context, "create", "all.tar", files=[".", "docs/a.txt", "docs"])
    assert (first["files"], first["directories"]) == (3, 3)
    assert "all.tar" not in [entry["name"] for entry in do(context, "list", "all.tar")["entries"]]


def test_A7_links_and_special_files_are_not_packed(tree: Path, context: ToolContext) -> None:
    (tree / "docs/link").symlink_to("/etc/passwd")
    (tree / "docs/dirlink").symlink_to("/etc")
    os.mkfifo(tree / "docs/pipe")
    result = do(context, "create", "a.zip", files=["docs"])
    assert result["skipped"] == [
        {"name": "docs/dirlink", "reason": "it is a symbolic link"},
        {"name": "docs/link", "reason": "it is a symbolic link"},
        {"name": "docs/pipe", "reason": "it is neither a file nor a directory"},
    ]
    assert result["files"] == 2


def test_a_name_that_is_not_utf8_is_not_packed_and_told(workspace: Path, context: ToolContext) -> None:
    Path(os.fsdecode(os.fsencode(workspace) + b"/caf\xe9")).write_text("x")
    for format_ in FORMATS:
        result = do(context, "create", f"../workspace/a.{format_}".removeprefix("../workspace/"), files=["."])
        assert {"name": "caf\\xe9", "reason": "its name is not UTF-8"} in result["skipped"]


@pytest.mark.parametrize("path", ["..", "../secret.txt", "/etc", "link"])
def test_A7_nothing_outside_is_packed_listed_or_unpacked_to(
    path: str, tree: Path, context: ToolContext
) -> None:
    (tree / "link").symlink_to("..")
    do(context, "create", "a.zip", files=["docs"])
    for arguments in (
        {"action": "create", "path": "b.zip", "files": [path]},
        {"action": "create", "path": f"{path}/b.zip", "files": ["docs"]},
        {"action": "list", "path": path},
        {"action": "extract", "path": "a.zip", "destination": path},
    ):
        with pytest.raises(PermissionRefused):
            archive.run(arguments, context)
    assert sorted(entry.name for entry in tree.parent.iterdir()) == ["secret.txt", "workspace"]


REG, SYM, LNK = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
TAR_ATTACKS: list[tuple[str, Any, str]] = [
    ("absolute", [("/tmp/evil", REG, "x")], "its path is absolute"),
    ("double-slash", [("//tmp/evil", REG, "x")], "its path is absolute"),
    ("traversal", [("../evil", REG, "x")], "its path has '..' in it"),
    ("deep-traversal", [("a/b/../../../evil", REG, "x")], "its path has '..' in it"),
    ("backslashes", [("..\\evil", REG, "x")], "its path has '..' in it"),
    ("drive", [("C:\\evil", REG, "x")], "its path is absolute"),
    ("traversing-directory", [("../evil", tarfile.DIRTYPE, "")], "its path has '..' in it"),
    ("symlink", [("link", SYM, "/etc/passwd")], "it is a symbolic link"),
    ("symlink-inside", [("link", SYM, "ok.txt")], "it is a symbolic link"),
    ("hardlink", [("link", LNK, "../secret.txt")], "it is a hard link"),
    ("hardlink-inside", [("link", LNK, "ok.txt")], "it is a hard link"),
    ("fifo", [("pipe", tarfile.FIFOTYPE, "")], "it is a FIFO"),
    ("character-device", [("null", tarfile.CHRTYPE, "")], "it is a device"),
    ("block-device", [("sda", tarfile.BLKTYPE, "")], "it is a device"),
]


@pytest.mark.parametrize(
    ("entries", "reason"), [attack[1:] for attack in TAR_ATTACKS], ids=[a[0] for a in TAR_ATTACKS]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["tar", "tar.gz", "tar.xz"])
def test_A7_an_unsafe_entry_of_a_tar_is_refused_and_reported(
    pack: Callable[[bytes], bytes], entries: Any, reason: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "a").write_bytes(pack(tar_of(("ok.txt", REG, "fine"), *entries)))
    result = do(context, "extract", "a", destination="out")
    assert [entry["reason"] for entry in result["refused"]] == [reason]
    assert (result["files"], result["refused_count"]) == (1, 1)
    assert content_of(workspace / "out") == {"ok.txt": "fine"}
    assert sorted(entry.name for entry in workspace.parent.iterdir()) == ["secret.txt", "workspace"]


ZIP_ATTACKS: list[tuple[str, Any, str]] = [
    ("absolute", ("/tmp/evil", "x"), "its path is absolute"),
    ("traversal", ("../evil", "x"), "its path has '..' in it"),
    ("deep-traversal", ("a/../../evil", "x"), "its path has '..' in it"),
    ("backslashes", ("..\\..\\evil", "x"), "its path has '..' in it"),
    ("drive", ("c:/evil", "x"), "its path is absolute"),
    ("traversing-directory", ("../evil/", ""), "its path has '..' in it"),
    ("symlink", ("link", "/etc/passwd", stat.S_IFLNK | 0o777), "it is a symbolic link"),
    ("fifo", ("pipe", "", stat.S_IFIFO | 0o644), "it is a FIFO"),
    ("character-device", ("null", "", stat.S_IFCHR | 0o644), "it is a device"),
    ("block-device", ("sda", "", stat.S_IFBLK | 0o644), "it is a device"),
    ("socket", ("socket", "", stat.S_IFSOCK | 0o644), "it is neither a file nor a directory"),
]


@pytest.mark.parametrize(
    ("entry", "reason"), [attack[1:] for attack in ZIP_ATTACKS], ids=[a[0] for a in ZIP_ATTACKS]
)
def test_A7_an_unsafe_entry_of_a_zip_is_refused_and_reported(
    entry: Any, reason: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "a").write_bytes(zip_of(("ok.txt", "fine"), entry))
    result = do(context, "extract", "a", destination="out")
    assert [refused["reason"] for refused in result["refused"]] == [reason]
    assert content_of(workspace / "out") == {"ok.txt": "fine"}
    assert sorted(found.name for found in workspace.parent.iterdir()) == ["secret.txt", "workspace"]


def test_A7_an_encrypted_entry_is_refused(workspace: Path, context: ToolContext) -> None:
    data = bytearray(zip_of(("locked", "x")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (workspace / "a.zip").write_bytes(data)
    assert do(context, "list", "a.zip")["entries"] == [{"name": "locked", "type": "encrypted", "size": 1}]
    assert do(context, "extract", "a.zip")["refused"][0]["reason"] == "it is encrypted"


def test_A7_writing_through_a_link_of_the_same_archive_is_impossible(
    workspace: Path, context: ToolContext
) -> None:
    """The link is refused, so what was to go through it lands in a directory of that name."""
    (workspace / "a.tar").write_bytes(tar_of(("up", SYM, ".."), ("up/evil", REG, "x")))
    result = do(context, "extract", "a.tar", destination="out")
    assert result["refused_count"] == 1
    assert content_of(workspace / "out") == {"up": None, "up/evil": "x"}
    assert not (workspace.parent / "evil").exists()


def test_A7_a_link_that_is_already_there_is_not_written_through(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "out").mkdir()
    (workspace / "out/up").symlink_to("../..")
    (workspace / "out/file").symlink_to("../../secret.txt")
    (workspace / "a.tar").write_bytes(tar_of(("up/evil", REG, "x"), ("file", REG, "x"), ("ok", REG, "x")))
    result = do(context, "extract", "a.tar", destination="out")
    assert [entry["name"] for entry in result["refused"]] == ["up/evil", "file"]
    assert (workspace.parent / "secret.txt").read_text() == "secret"
    assert sorted(found.name for found in workspace.parent.iterdir()) == ["secret.txt", "workspace"]


def test_A7_set_user_id_bits_are_not_taken_over(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.tar").write_bytes(tar_of(("suid", REG, "x", 0o6755), ("open", REG, "x", 0o666)))
    do(context, "extract", "a.tar", destination="out")
    assert (workspace / "out/suid").stat().st_mode & 0o7000 == 0
    assert (workspace / "out/suid").stat().st_mode & 0o100
    assert (workspace / "out/open").stat().st_mode & 0o111 == 0


def test_what_is_there_is_not_replaced(workspace: Path, context: ToolContext) -> None:
    (workspace / "keep.txt").write_text("mine")
    (workspace / "file").write_text("mine")
    (workspace / "dir").mkdir()
    (workspace / "a.zip").write_bytes(
        zip_of(("keep.txt", "theirs"), ("file/below", "x"), ("dir", "x"), ("new", "x"))
    )
    result = do(context, "extract", "a.zip")
    assert {entry["name"]: entry["reason"] for entry in result["refused"]} == dict.fromkeys(
        ["keep.txt", "file/below", "dir"], "something of that name is there already"
    )
    assert ((workspace / "keep.txt").read_text(), (workspace / "new").read_text()) == ("mine", "x")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_entries_of_one_name_the_second_is_refused(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.zip").write_bytes(zip_of(("a", "first"), ("a", "second"), ("a/b", "third")))
    assert do(context, "extract", "a.zip", destination="out")["refused_count"] == 2
    assert content_of(workspace / "out") == {"a": "first"}


def test_names_no_file_system_takes_are_refused(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.tar").write_bytes(
        tar_of(("x" * 300, REG, "x"), ("./", tarfile.DIRTYPE, ""), ("ok", REG, "x"))
    )
    result = do(context, "extract", "a.tar", destination="out")
    assert [entry["reason"] for entry in result["refused"]] == ["its name is none the file system takes"]
    assert content_of(workspace / "out") == {"ok": "x"}


def test_only_so_many_refusals_are_shown(workspace: Path, context: ToolContext) -> None:
    (workspace / "a.tar").write_bytes(tar_of(*((f"../{number}", REG, "") for number in range(150))))
    result = do(context, "extract", "a.tar")
    assert (len(result["refused"]), result["refused_count"]) == (100, 150)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["tar.gz", "tar.xz"])
def test_a_bomb_of_zeros_is_refused_and_leaves_nothing(
    pack: Callable[[bytes], bytes], workspace: Path, context: ToolContext
) -> None:
    (workspace / "bomb").write_bytes(pack(tar_of(("ok", REG, "x"), ("zeros", REG, "\0" * (40 << 20)))))
    for action in ("extract", "list"):
        with pytest.raises(ToolFailure, match=r"as (archive )?bombs do") as caught:
            do(context, action, "bomb", **({"destination": "a/b"} if action == "extract" else {}))
        assert caught.value.details["limit"] in {"ratio", "bytes"}
    assert [path.name for path in workspace.iterdir()] == ["bomb"]


def test_a_zip_bomb_is_refused_and_leaves_nothing(workspace: Path, context: ToolContext) -> None:
    (workspace / "bomb").write_bytes(zip_of(("ok", "x"), ("zeros", "\0" * (40 << 20))))
    with pytest.raises(ToolFailure, match="times its size") as caught:
        do(context, "extract", "bomb", destination="out")
    assert caught.value.details == {"limit": "ratio"}
    assert [path.name for path in workspace.iterdir()] == ["bomb"]


def test_a_zip_whose_entries_share_their_data_is_refused(workspace: Path, context: ToolContext) -> None:
    """The overlapping zip bomb (Fifield 2019): a central directory of many names for one compressed file."""
    one = zip_of(("0" * 8, "\0" * (1 << 20)))
    start = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    entry = one[start:end]
    names = [f"{number:08}".encode() for number in range(60)]
    central = b"".join(entry.replace(b"0" * 8, name) for name in names)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(names), len(names), len(central), start, 0)
    (workspace / "bomb.zip").write_bytes(one[:start] + central + tail)
    with pytest.raises(ToolFailure):
        do(context, "extract", "bomb.zip", destination="out")
    assert [path.name for path in workspace.iterdir()] == ["bomb.zip"]


def test_a_sparse_tar_is_counted_by_what_comes_out(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_reading, "RATIO_FREE_BYTES", 1 << 20)
    info = tarfile.TarInfo("sparse")
    info.size = 512
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,512",
        "GNU.sparse.size": str(1 << 33),
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"x" * 512))
    (workspace / "a.tar").write_bytes(raw.getvalue())
    with pytest.raises(ToolFailure, match="bombs do"):
        do(context, "extract", "a.tar", destination="out")
    assert [path.name for path in workspace.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    "make",
    [
        lambda names: zip_of(*((name, "") for name in names)),
        lambda names: tar_of(*((name, REG, "") for name in names)),
    ],
    ids=["zip", "tar"],
)
def test_too_many_entries_are_refused_and_leave_nothing(
    make: Callable[[list[str]], bytes], workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_reading, "MAX_ENTRIES", 20)
    (workspace / "ok").write_bytes(make([str(number) for number in range(20)]))
    (workspace / "many").write_bytes(make([f"d/{number}" for number in range(21)]))
    assert do(context, "extract", "ok", destination="out")["files"] == 20
    for action in ("list", "extract"):
        with pytest.raises(ToolFailure, match="more than 20 entries") as caught:
            do(context, action, "many")
        assert caught.value.details == {"limit": "entries"}
    assert not (workspace / "d").exists()


def test_too_many_bytes_are_refused_and_leave_nothing(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_reading, "MAX_BYTES", 1000)
    (workspace / "a.tar").write_bytes(tar_of(("1", REG, "x" * 600), ("2", REG, "x" * 600)))
    with pytest.raises(ToolFailure, match="more than 1000 bytes") as caught:
        do(context, "extract", "a.tar", destination="out")
    assert caught.value.details == {"limit": "bytes"}
    assert [path.name for path in workspace.iterdir()] == ["a.tar"]


def test_packing_is_bounded_as_well(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (workspace / str(number)).write_text("x" * 100)
    monkeypatch.setattr(archive_writing, "MAX_ENTRIES", 4)
    with pytest.raises(ToolFailure, match="more than 4 files"):
        do(context, "create", "a.zip", files=["."])
    monkeypatch.setattr(archive_writing, "MAX_ENTRIES", 5)
    monkeypatch.setattr(archive_writing, "MAX_BYTES", 499)
    with pytest.raises(ToolFailure, match="more than 499 bytes"):
        do(context, "create", "a.zip", files=["."])
    assert len([*workspace.iterdir()]) == 5


@pytest.mark.parametrize("format_", FORMATS)
def test_a_full_disk_leaves_neither_archive_nor_files(
    format_: str, tree: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(context, "create", f"a.{format_}", files=["docs"])
    before = content_of(tree / "docs")

    def full(_descriptor: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(ToolFailure) as caught:
        do(context, "extract", f"a.{format_}", destination="new/out")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == 28
    assert not (tree / "new").exists()
    assert content_of(tree / "docs") == before


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"x" * 2000, b"PK\x03\x04junk", b"\x1f\x8bjunk", b"\xfd7zXZ\x00junk", b"\0" * 5000],
)
def test_what_is_no_archive_is_a_clear_failure(content: bytes, workspace: Path, context: ToolContext) -> None:
    (workspace / "a").write_bytes(content)
    if content == b"\0" * 5000:  # the end-of-archive marks alone: an empty tar
        assert do(context, "list", "a")["count"] == 0
        return
    for action in ("list", "extract"):
        with pytest.raises(ToolFailure, match="is damaged, or no archive of a known kind"):
            do(context, action, "a")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)
@given(
    format_=st.sampled_from(FORMATS),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
)
def test_a_damaged_archive_is_a_failure_or_a_part_and_never_anything_else(
    *, format_: str, cut: float, flips: list[tuple[float, int]], tree: Path, context: ToolContext
) -> None:
    if not (tree / f"a.{format_}").exists():
        do(context, "create", f"a.{format_}", files=["docs", "run.sh"])
    data = bytearray((tree / f"a.{format_}").read_bytes())
    for place, change in flips:
        data[int(place * len(data))] ^= change
    (tree / "broken").write_bytes(data[: int(len(data) * cut)])
    destination = f"out{len([*tree.iterdir()])}"
    try:
        do(context, "extract", "broken", destination=destination)
    except (ToolFailure, PermissionRefused):
        assert not (tree / destination).exists()
    assert sorted(found.name for found in tree.parent.iterdir()) == ["secret.txt", "workspace"]


def test_a_long_listing_is_cut(workspace: Path) -> None:
    (workspace / "a.tar").write_bytes(tar_of(*((f"{number:0200}", REG, "") for number in range(100))))
    result = do(ToolContext(str(workspace), output_limit_bytes=10_000), "list", "a.tar")
    assert 0 < len(result["entries"]) < 100
    assert (result["count"], result["truncated"]) == (100, True)


def test_a_large_archive_reports_progress(workspace: Path) -> None:
    (workspace / "a.tar").write_bytes(tar_of(*((f"d/{number}", REG, "") for number in range(1000))))
    heard: list[tuple[float | None, str]] = []
    context = ToolContext(str(workspace), report=lambda fraction, message: heard.append((fraction, message)))
    do(context, "extract", "a.tar")
    assert heard == [(None, "500 entries"), (None, "1000 entries")]
