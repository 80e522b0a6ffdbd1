"""Which file of the workspace a path means, and whether a tool may touch it.

Landlock holds the line where the kernel has it; these checks come first because they can name the path and
the rule. They follow symbolic links to their end, so a link is as good or as bad as the place it leads to.
"""

import os

from corral_runner.interface import InvalidArgument, PermissionRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import ToolContext


def resolve(path: str, context: "ToolContext", field: str = "path") -> str:
    """The absolute path, free of symbolic links, of a path given relative to the workspace.

    Args:
        path: as the caller gave it; need not exist.
        context: whose workspace and allowed paths hold.
        field: the argument the path came from, for the error.

    Raises:
        InvalidArgument: it can be no path: empty, a NUL in it, characters no file name can have.
        PermissionRefused: it is absolute, leaves the workspace (by ``..`` or through a symbolic link), or is
            not below one of the allowed paths.
    """
    _refuse_malformed(path, field)
    workspace = os.path.realpath(context.workspace)
    _refuse_escape(path, workspace)
    absolute = os.path.realpath(os.path.join(workspace, path))
    if not _is_within(absolute, workspace):
        raise PermissionRefused(
            "workspace", f"{path!r} leads out of the workspace through a symbolic link; give a path inside it"
        )
    if context.allowed_paths != (".",) and not _is_allowed(absolute, workspace, context):
        allowed = ", ".join(repr(allowed) for allowed in context.allowed_paths) or "none"
        raise PermissionRefused("allowedPaths", f"{path!r} is outside the allowed paths ({allowed})")
    return absolute


def relative(absolute: str, context: "ToolContext") -> str:
    """How a resolved path is called in results: relative to the workspace, ``.`` for the workspace itself."""
    workspace = os.path.realpath(context.workspace)
    return "." if absolute == workspace else printable(os.path.relpath(absolute, workspace))


def printable(name: str) -> str:
    r"""A file name as JSON can carry it: bytes that are no UTF-8 appear as ``\xff``."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _refuse_malformed(path: str, field: str) -> None:
    if not path:
        raise InvalidArgument(field, "is empty; '.' is the workspace itself")
    if "\0" in path:
        raise InvalidArgument(field, "contains a NUL character, which no file name can")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidArgument(field, "contains a lone surrogate, which no file name can") from error


def _refuse_escape(path: str, workspace: str) -> None:
    if path.startswith("/"):
        inside = _is_within(os.path.normpath(path), workspace)
        remedy = (
            f"write {os.path.relpath(path, workspace)!r}" if inside else "only the workspace is reachable"
        )
        raise PermissionRefused(
            "workspace", f"{path!r} is absolute; paths are relative to the workspace: {remedy}"
        )
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            raise PermissionRefused(
                "workspace", f"{path!r} leaves the workspace by '..'; give a path inside it"
            )


def _is_allowed(absolute: str, workspace: str, context: "ToolContext") -> bool:
    return any(
        _is_within(absolute, os.path.realpath(os.path.join(workspace, allowed)))
        for allowed in context.allowed_paths
    )


def _is_within(absolute: str, directory: str) -> bool:
    return absolute == directory or absolute.startswith(directory.rstrip("/") + "/")
