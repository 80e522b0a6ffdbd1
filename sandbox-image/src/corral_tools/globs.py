"""File name patterns: ``*``, ``?``, ``[…]`` within a name, ``**`` for any number of directories."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def matcher(patterns: "Iterable[str]") -> "Callable[[str], bool]":
    """Whether a path, relative and with ``/``, matches one of the patterns.

    As in .gitignore, a pattern without a slash is about the name alone (``*.py``), one with a slash about the
    whole path (``src/**/*.py``), and a pattern that matches a directory holds for everything in it.
    """
    import re

    expression = re.compile("|".join(_translate(pattern) for pattern in patterns) or r"(?!)", re.DOTALL)
    return lambda path: expression.fullmatch(path) is not None


def _translate(pattern: str) -> str:
    anchored = pattern.strip("/")
    prefix = "" if "/" in pattern.rstrip("/") else "(?:.*/)?"
    parts = []
    index = 0
    while index < len(anchored):
        piece, index = _piece(anchored, index)
        parts.append(piece)
    return f"{prefix}{''.join(parts)}(?:/.*)?"


def _piece(pattern: str, index: int) -> tuple[str, int]:
    """The regular expression of what stands at an index, and where the rest begins."""
    import re

    if pattern.startswith("**/", index):
        return "(?:.*/)?", index + 3
    if pattern.startswith("**", index):
        return ".*", index + 2
    character = pattern[index]
    if character == "*":
        return "[^/]*", index + 1
    if character == "?":
        return "[^/]", index + 1
    end = pattern.find("]", index + 2 + (pattern[index + 1 : index + 2] in {"!", "^"}))
    if character != "[" or end < 0:
        return re.escape(character), index + 1
    negated = pattern[index + 1] in "!^"
    members = pattern[index + 1 + negated : end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"(?!/)[{'^' if negated else ''}{members}]", end + 1
