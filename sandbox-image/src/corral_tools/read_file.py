"""The content of a text file of the workspace, with its size and its number of lines."""

import codecs
import os

from corral_runner.interface import ToolFailure
from corral_tools import bounds, files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

_CHUNK_BYTES = 1 << 18


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The first lines of the file, or all of it, as far as a result can carry them.

    Lines end with a newline character and keep it. Bytes that are not UTF-8 become U+FFFD, and the result
    says so; a file with a NUL byte is no text and is refused.
    """
    path = arguments["path"]
    max_lines = arguments.get("max_lines")
    budget = bounds.budget_bytes(context)
    descriptor = files.open_for_reading(paths.resolve(path, context), path)
    try:
        size_bytes = os.fstat(descriptor).st_size
        head, lines, read = _scan(descriptor, budget)
    except OSError as error:
        raise files.failure(error, "read", path) from error
    finally:
        os.close(descriptor)
    if b"\0" in head:
        raise ToolFailure(
            f"{path!r} is not text: byte {head.index(0)} is NUL; the python tool can read it as bytes",
            path=paths.printable(path),
        )
    kept = head if max_lines is None else _first_lines(head, max_lines)
    text, replaced = _decode(kept, is_cut=len(kept) == len(head) < read)
    content, clipped = bounds.clip(text, budget)
    return {
        "content": content,
        "size": size_bytes,
        "line_count": lines,
        "truncated": clipped or len(kept) < read,
        "invalid_utf8_replaced": replaced,
    }


def _scan(descriptor: int, keep_bytes: int) -> tuple[bytes, int, int]:
    """The first bytes of a file, how many lines it has, and how many bytes."""
    head = bytearray()
    newlines = read = 0
    last = b"\n"
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        head += chunk[: max(0, keep_bytes - len(head))]
        newlines += chunk.count(b"\n")
        read += len(chunk)
        last = chunk[-1:]
    return bytes(head), newlines + (last != b"\n"), read


def _first_lines(data: bytes, count: int) -> bytes:
    end = -1
    for _ in range(count):
        end = data.find(b"\n", end + 1)
        if end < 0:
            return data
    return data[: end + 1]


def _decode(data: bytes, *, is_cut: bool) -> tuple[str, bool]:
    """The text, and whether anything in it is no UTF-8. A character that a cut split is left out."""
    try:
        return codecs.utf_8_decode(data, "strict", not is_cut)[0], False
    except UnicodeDecodeError:
        return codecs.utf_8_decode(data, "replace", not is_cut)[0], True
