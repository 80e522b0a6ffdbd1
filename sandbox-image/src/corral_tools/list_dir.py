"""The entries of a workspace directory: name, type, size."""

import os

from corral_tools import bounds, files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: An agent reads every one of them; a larger directory is searched (search_files), not read.
MAX_ENTRIES = 1000


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The entries in the order of their names. A symbolic link is an entry of its own and is not followed."""
    path = arguments.get("path", ".")
    absolute = paths.resolve(path, context)
    entries: list[JSON] = []
    left_bytes = bounds.budget_bytes(context)
    try:
        with os.scandir(absolute) as scan:
            found = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise files.failure(error, "list", path) from error
    for entry in found[:MAX_ENTRIES]:
        name = paths.printable(entry.name)
        left_bytes -= bounds.encoded_bytes(name) + 50  # the other two fields and what surrounds them
        if left_bytes < 0:
            break
        entries.append({"name": name, "type": _type(entry), "size": _size_bytes(entry)})
    return {"entries": entries, "count": len(found), "truncated": len(entries) < len(found)}


def _type(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _size_bytes(entry: "os.DirEntry[str]") -> int:
    if not entry.is_file(follow_symlinks=False):
        return 0  # the size of a directory depends on the file system and says nothing
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # removed since it was listed
        return 0
