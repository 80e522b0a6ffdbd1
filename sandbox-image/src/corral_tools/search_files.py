"""Find files of the workspace by their names, and lines in them by their contents."""

import codecs
import os

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolFailure
from corral_tools import bounds, files, globs, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: A larger file is no source, configuration or note; it is counted as skipped.
MAX_FILE_BYTES = 16 << 20
#: A file with a NUL among its first bytes is binary, as git and grep decide it.
_PROBE_BYTES = 8000
#: Longer lines are generated ones; so much around the match shows what it is.
_LINE_CHARACTERS = 400


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """Matches in the order of their paths and lines; symbolic links are not followed."""
    path = arguments.get("path", ".")
    target = arguments.get("target", "contents")
    search = _Search(arguments, context)
    for name, absolute in _walk(paths.resolve(path, context), path, context, search.is_excluded):
        if search.is_full:
            break
        if search.is_wanted(name):
            if target != "contents":
                search.in_name(name)
            if target != "names":
                search.in_file(name, absolute)
    return search.report()


class _Search:
    """One search: what it looks for, and what it has found so far."""

    def __init__(self, arguments: "Mapping[str, Any]", context: "ToolContext") -> None:
        self._pattern = _pattern(arguments)
        self._included = globs.matcher(arguments["include"]) if arguments.get("include") else None
        self.is_excluded = globs.matcher(arguments.get("exclude", ()))
        self._context_lines: int = arguments.get("context_lines", 0)
        self._left = arguments.get("max_results", 100)
        self._left_bytes = bounds.budget_bytes(context)
        self._truncated = False
        self._names: list[JSON] = []
        self._matches: list[JSON] = []
        self._searched = 0
        self._skipped = {"binary": 0, "too_large": 0, "unreadable": 0}

    @property
    def is_full(self) -> bool:
        return self._truncated

    def is_wanted(self, name: str) -> bool:
        return (self._included is None or self._included(name)) and not self.is_excluded(name)

    def in_name(self, name: str) -> None:
        if self._pattern.search(name) and self._has_room(bounds.encoded_bytes(name) + 2):
            self._names.append(name)

    def in_file(self, name: str, absolute: str) -> None:
        text = self._text(absolute)
        if text is None:
            return
        self._searched += 1
        lines = text.split("\n")
        for index, line in enumerate(lines):
            found = self._pattern.search(line)
            if found is None:
                continue
            match = self._match(name, lines, index, found)
            if not self._has_room(sum(bounds.encoded_bytes(str(value)) + 20 for value in match.values())):
                return
            self._matches.append(match)

    def report(self) -> "JSON":
        return {
            "names": self._names,
            "matches": self._matches,
            "count": len(self._names) + len(self._matches),
            "files_searched": self._searched,
            "files_skipped": {**self._skipped},
            "truncated": self._truncated,
        }

    def _has_room(self, size_bytes: int) -> bool:
        self._left -= 1
        self._left_bytes -= size_bytes
        self._truncated = self._left < 0 or self._left_bytes < 0
        return not self._truncated

    def _text(self, absolute: str) -> str | None:
        try:
            descriptor = files.open_for_reading(absolute, absolute)
        except (ToolFailure, PermissionRefused):
            self._skipped["unreadable"] += 1
            return None
        with open(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size > MAX_FILE_BYTES:
                self._skipped["too_large"] += 1
                return None
            data = file.read(_PROBE_BYTES)
            if b"\0" in data:
                self._skipped["binary"] += 1
                return None
            return codecs.utf_8_decode(data + file.read(MAX_FILE_BYTES), "replace", True)[0]

    def _match(self, name: str, lines: list[str], index: int, found: "re.Match[str]") -> "dict[str, JSON]":
        match: dict[str, JSON] = {
            "path": name,
            "line": index + 1,
            "column": found.start() + 1,
            "text": _excerpt(lines[index], found.start()),
        }
        if self._context_lines:
            first = max(0, index - self._context_lines)
            match["before"] = [_excerpt(line, 0) for line in lines[first:index]]
            match["after"] = [
                _excerpt(line, 0) for line in lines[index + 1 : index + 1 + self._context_lines]
            ]
        return match


def _pattern(arguments: "Mapping[str, Any]") -> "re.Pattern[str]":
    import re

    pattern: str = arguments["pattern"]
    flags = re.IGNORECASE if arguments.get("ignore_case", False) else re.NOFLAG
    try:
        return re.compile(pattern if arguments.get("regex", False) else re.escape(pattern), flags)
    except (re.error, OverflowError, RecursionError) as error:
        remedy = "leave out 'regex' to search for the text as it is"
        raise InvalidArgument("pattern", f"is no regular expression: {error}; {remedy}") from error


def _walk(
    absolute: str, path: str, context: "ToolContext", is_excluded: "Callable[[str], bool]"
) -> "Iterator[tuple[str, str]]":
    """Name and absolute path of every regular file at or below a path, directory by directory."""
    if os.path.isfile(absolute):
        yield paths.relative(absolute, context), absolute
        return
    top = paths.relative(absolute, context)
    pending = [(absolute, "" if top == "." else f"{top}/")]
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if directory == absolute:
                raise files.failure(error, "search", path) from error
            continue  # unreadable, or gone since it was listed
        below = []
        for entry in entries:
            name = prefix + paths.printable(entry.name)
            if entry.is_dir(follow_symlinks=False) and not is_excluded(name):
                below.append((entry.path, f"{name}/"))
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.path
        pending.extend(reversed(below))


def _excerpt(line: str, start: int) -> str:
    """A line, or of a long one what is around a place."""
    line = line.removesuffix("\r")
    if len(line) <= _LINE_CHARACTERS:
        return line
    first = max(0, start - _LINE_CHARACTERS // 4)
    last = first + _LINE_CHARACTERS
    return f"{'…' if first else ''}{line[first:last]}{'…' if last < len(line) else ''}"
