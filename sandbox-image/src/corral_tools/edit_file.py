"""Replace exact pieces of a text file, all of them or none, and show what changed."""

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import files, paths, text_diff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: Source files are far smaller; the text is held several times over, and the diff costs time.
MAX_FILE_BYTES = 4 << 20
#: So many line numbers are enough to choose more context by.
_LINES_NAMED = 10


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The edits apply in their order, each to what the one before it left; one that fails undoes all."""
    path = arguments["path"]
    absolute = paths.resolve(path, context)
    before = files.read_text(path, context, limit_bytes=MAX_FILE_BYTES)
    after = before
    replacements = 0
    for index, edit in enumerate(arguments["edits"]):
        after, count = _apply(after, edit, f"edits[{index}]")
        replacements += count
    data = files.encode(after, "edits")
    if len(data) > MAX_FILE_BYTES:
        raise ToolFailure(
            f"{path!r} would grow to {len(data)} bytes; this tool takes at most {MAX_FILE_BYTES}"
        )
    name = paths.relative(absolute, context)
    difference = text_diff.compare(before, after, names=(f"a/{name}", f"b/{name}"), context=context)
    if after != before:
        files.replace(absolute, data, path)
    return {"path": name, "replacements": replacements, "changed": after != before, **difference}


def _apply(text: str, edit: "Mapping[str, Any]", field: str) -> tuple[str, int]:
    old: str = edit["old"]
    new: str = edit["new"]
    if not old:
        raise InvalidArgument(f"{field}.old", "is empty; write_file writes a whole file")
    count = text.count(old)
    if count == 0:
        raise ToolFailure(
            f"{field}.old does not occur in the file{_hint(text, old)}", field=f"{field}.old", found=0
        )
    if count > 1 and not edit.get("replace_all", False):
        lines = _lines_of(text, old)
        shown = ", ".join(str(line) for line in lines) + (", …" if count > len(lines) else "")
        raise ToolFailure(
            f"{field}.old occurs {count} times (lines {shown}); add the lines around it, or set replace_all",
            field=f"{field}.old",
            found=count,
        )
    return text.replace(old, new), count


def _hint(text: str, old: str) -> str:
    if "\r\n" in text and "\r" not in old and old.replace("\n", "\r\n") in text:
        return "; the file's lines end with CR LF, the edit's with LF"
    if old.strip() and old.strip() in text:
        return "; it does without the white space around it"
    lines = [line.strip() for line in old.splitlines() if line.strip()]
    if lines and all(line in text for line in lines):
        return "; its lines occur, but with other indentation or other lines between them"
    return "; read_file shows what it holds"


def _lines_of(text: str, piece: str) -> list[int]:
    lines: list[int] = []
    position = text.find(piece)
    while position >= 0 and len(lines) < _LINES_NAMED:
        lines.append(text.count("\n", 0, position) + 1)
        position = text.find(piece, position + len(piece))
    return lines
