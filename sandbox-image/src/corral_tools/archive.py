"""Create, list and extract archives: zip, tar, tar.gz, tar.xz."""

from corral_runner.interface import InvalidArgument
from corral_tools import archive_extraction, archive_reading, archive_writing, bounds, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """``create`` packs ``files`` into ``path``; ``list`` and ``extract`` read ``path``."""
    action: str = arguments["action"]
    if action == "create":
        if not arguments.get("files"):
            raise InvalidArgument("files", "is empty; name the files and directories to pack")
        return archive_writing.create(
            arguments["path"], arguments["files"], format_=arguments.get("format"), context=context
        )
    if action == "list":
        return _list(arguments["path"], context)
    return archive_extraction.extract(arguments["path"], arguments.get("destination", "."), context)


def _list(path: str, context: "ToolContext") -> "JSON":
    entries: list[JSON] = []
    count = total_bytes = 0
    left_bytes = bounds.budget_bytes(context)
    with archive_reading.opened(path, context) as archive:
        for member in archive.members():
            count += 1
            total_bytes += member.size_bytes
            name = paths.printable(member.name)
            left_bytes -= bounds.encoded_bytes(name) + 60
            if left_bytes > 0:
                entries.append({"name": name, "type": member.type, "size": member.size_bytes})
    return {
        "format": archive.format,
        "entries": entries,
        "count": count,
        "total_bytes": total_bytes,
        "truncated": len(entries) < count,
    }
