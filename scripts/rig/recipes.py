"""Keys of what the rig builds: the same recipe gives the same key, any change of it another one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Twelve hexadecimal digits: no accidental collision among a few dozen recipes, and still readable in a tag.
_KEY_LENGTH = 12


def key(*ingredients: object) -> str:
    """A short key of everything that decides the result; values are told apart by their `repr`."""
    digest = hashlib.sha256()
    for ingredient in ingredients:
        text = repr(ingredient).encode()
        # The length in front keeps ("ab", "c") apart from ("a", "bc").
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()[:_KEY_LENGTH]


def contents(folder: Path, pattern: str = "**/*") -> tuple[tuple[str, bytes], ...]:
    """The files below a folder as an ingredient: relative name and content, in a fixed order."""
    found: Iterable[Path] = folder.glob(pattern)
    return tuple(
        (str(file.relative_to(folder)), file.read_bytes())
        for file in sorted(found)
        if file.is_file() and "__pycache__" not in file.parts
    )
