"""Which paths lead into the workspace, and which are refused."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext
from corral_tools import paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".", ""),
        ("a.txt", "a.txt"),
        ("./a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("missing/deep/file", "missing/deep/file"),
        ("ünï cödé", "ünï cödé"),
        ("..hidden/...", "..hidden/..."),
    ],
)
def test_a_path_inside_is_resolved(path: str, expected: str, workspace: Path, context: ToolContext) -> None:
    assert paths.resolve(path, context) == str(workspace / expected).rstrip("/")


@pytest.mark.parametrize(
    "path", ["..", "../secret.txt", "a/../../secret.txt", "../workspace/a", "a/b/../../../x", "./.."]
)
def test_A7_traversal_is_refused(path: str, context: ToolContext) -> None:
    with pytest.raises(PermissionRefused, match="leaves the workspace") as caught:
        paths.resolve(path, context)
    assert caught.value.rule == "workspace"


@pytest.mark.parametrize("path", ["/etc/passwd", "/", "//etc/passwd", "/proc/self/root"])
def test_A7_absolute_paths_are_refused(path: str, context: ToolContext) -> None:
    with pytest.raises(PermissionRefused, match="absolute") as caught:
        paths.resolve(path, context)
    assert caught.value.rule == "workspace"


def test_an_absolute_path_into_the_workspace_is_refused_with_the_relative_one(
    workspace: Path, context: ToolContext
) -> None:
    with pytest.raises(PermissionRefused, match=r"write 'a/b\.txt'"):
        paths.resolve(f"{workspace}/a/b.txt", context)


@pytest.mark.parametrize(
    ("path", "why"),
    [("", "empty"), ("a\0b", "NUL"), ("\0", "NUL"), ("a\ud800b", "surrogate")],
)
def test_a_malformed_path_is_an_invalid_argument_of_its_field(
    path: str, why: str, context: ToolContext
) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        paths.resolve(path, context, "files[3]")
    assert caught.value.field == "files[3]"


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret.txt", "/", "..", "/proc/self/root/etc"])
def test_A7_a_symbolic_link_out_of_the_workspace_is_refused(
    target: str, workspace: Path, context: ToolContext
) -> None:
    (workspace / "link").symlink_to(target)
    with pytest.raises(PermissionRefused, match="symbolic link"):
        paths.resolve("link", context)
    with pytest.raises(PermissionRefused, match="symbolic link"):
        paths.resolve("link/below", context)


def test_A7_links_that_leave_and_return_are_judged_by_where_they_end(
    workspace: Path, context: ToolContext
) -> None:
    (workspace / "data").mkdir()
    (workspace / "link").symlink_to("../workspace/data")
    assert paths.resolve("link/x", context) == str(workspace / "data/x")
    # ".." behind a link is that of the link's target, as the kernel sees it.
    (workspace / "data/inner").mkdir()
    (workspace / "deep").symlink_to("data/inner")
    assert paths.resolve("deep/../x", context) == str(workspace / "data/x")


def test_A7_allowed_paths_bound_what_is_reachable(workspace: Path) -> None:
    context = ToolContext(str(workspace), allowed_paths=("data", "notes/today.txt"))
    for path in ("data", "data/a/b", "notes/today.txt"):
        assert paths.resolve(path, context) == str(workspace / path)
    for path in (".", "other", "notes", "database", "notes/today.txt.bak", "data/../other"):
        with pytest.raises(PermissionRefused, match="outside the allowed paths") as caught:
            paths.resolve(path, context)
        assert caught.value.rule == "allowedPaths"


def test_A7_an_allowed_path_that_is_a_link_allows_what_it_leads_to_and_a_link_into_it_nothing_else(
    workspace: Path,
) -> None:
    (workspace / "real").mkdir()
    (workspace / "other").mkdir()
    (workspace / "alias").symlink_to("real")
    (workspace / "real/out").symlink_to("../other")
    context = ToolContext(str(workspace), allowed_paths=("alias",))
    assert paths.resolve("real/x", context) == str(workspace / "real/x")
    with pytest.raises(PermissionRefused, match="allowed paths"):
        paths.resolve("real/out", context)


def test_no_allowed_path_allows_nothing(workspace: Path) -> None:
    with pytest.raises(PermissionRefused, match="none"):
        paths.resolve("a", ToolContext(str(workspace), allowed_paths=()))


def test_a_workspace_behind_a_link_is_the_same_workspace(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(workspace)
    context = ToolContext(str(tmp_path / "alias"))
    assert paths.resolve("a", context) == str(workspace / "a")
    assert paths.relative(str(workspace / "a"), context) == "a"
    assert paths.relative(str(workspace), context) == "."


def test_a_name_that_is_not_utf8_is_shown_with_its_bytes() -> None:
    assert paths.printable(os.fsdecode(b"caf\xe9.txt")) == "caf\\xe9.txt"
    assert paths.printable("café") == "café"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    parts=st.lists(
        st.one_of(st.sampled_from(["..", ".", "", "a", "link", "up", "~", "$HOME"]), st.text(max_size=5)),
        max_size=8,
    ),
    absolute=st.booleans(),
)
def test_A7_whatever_is_asked_for_the_answer_is_inside_or_a_refusal(
    *, parts: list[str], absolute: bool, workspace: Path, context: ToolContext
) -> None:
    for name, target in (("link", "/etc"), ("up", "..")):
        if not os.path.lexists(workspace / name):
            (workspace / name).symlink_to(target)
    path = ("/" if absolute else "") + "/".join(parts)
    try:
        resolved = paths.resolve(path, context)
    except (InvalidArgument, PermissionRefused):
        return
    assert Path(os.path.realpath(resolved)).is_relative_to(workspace)
