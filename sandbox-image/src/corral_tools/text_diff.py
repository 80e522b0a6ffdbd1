"""The difference of two texts as a unified diff, with its numbers."""

from corral_tools import bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import JSON, ToolContext


def compare(
    before: str, after: str, *, names: tuple[str, str], context: "ToolContext", context_lines: int = 3
) -> "dict[str, JSON]":
    """A unified diff as `patch` reads it, cut where it is too long, and how many lines it adds and removes.

    Args:
        before: the old text.
        after: the new text.
        names: what the two are called in the diff's head.
        context: bounds the diff's size.
        context_lines: unchanged lines around each change.
    """
    from difflib import unified_diff

    pieces = []
    added = removed = 0
    for number, line in enumerate(
        unified_diff(_lines(before), _lines(after), names[0], names[1], n=context_lines, lineterm="\n")
    ):
        if number > 1:  # the first two lines are the head, whose marks look like changes
            added += line.startswith("+")
            removed += line.startswith("-")
        pieces.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    diff, truncated = bounds.clip("".join(pieces), bounds.budget_bytes(context))
    return {"diff": diff, "added": added, "removed": removed, "truncated": truncated}


def _lines(text: str) -> list[str]:
    # Only a newline ends a line for patch(1); str.splitlines would split at form feeds and U+2028 as well.
    lines = text.split("\n")
    ended = [line + "\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended
