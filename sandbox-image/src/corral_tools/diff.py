"""Compare two texts, or two files of the workspace."""

from corral_runner.interface import InvalidArgument
from corral_tools import files, paths, text_diff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: The search for common lines takes time that grows faster than the texts do.
MAX_TEXT_BYTES = 4 << 20


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """Each side is given as a text (``before``, ``after``) or as a file (``before_path``, ``after_path``)."""
    before, before_name = _side("before", arguments, context)
    after, after_name = _side("after", arguments, context)
    difference = text_diff.compare(
        before,
        after,
        names=(before_name, after_name),
        context=context,
        context_lines=arguments.get("context_lines", 3),
    )
    return {"identical": before == after, **difference}


def _side(side: str, arguments: "Mapping[str, Any]", context: "ToolContext") -> tuple[str, str]:
    """The text of one side, and what it is called in the diff."""
    text: str | None = arguments.get(side)
    path: str | None = arguments.get(f"{side}_path")
    if (text is None) == (path is None):
        raise InvalidArgument(side, f"give either '{side}' (a text) or '{side}_path' (a workspace file)")
    if path is None:
        assert text is not None
        if len(files.encode(text, side)) > MAX_TEXT_BYTES:
            raise InvalidArgument(side, f"is longer than {MAX_TEXT_BYTES} bytes")
        return text, side
    field = f"{side}_path"
    name = paths.relative(paths.resolve(path, context, field), context)
    return files.read_text(path, context, limit_bytes=MAX_TEXT_BYTES, field=field), name
