"""Under which names a task's contents are kept. Pure: whoever has the task knows where they are."""

import hashlib


def input_name(sha256: str) -> str:
    """Return the name of a file that came with the task."""
    return f"in-{sha256}"


def file_name(execution: str, path: str) -> str:
    """Return the name of a file that an execution brought back. A path may hold what no store takes in a key."""
    return f"file-{execution}-{hashlib.sha256(path.encode()).hexdigest()}"


def stored_name(execution: str, what: str) -> str:
    """Return the name of an execution's ``stdout``, ``stderr`` or ``result``."""
    return f"{what}-{execution}"
